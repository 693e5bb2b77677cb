"""Rates over subjects: how many of a group, with exact intervals, and the difference of two on the same subjects.

References
----------
Clopper and Pearson (1934), Biometrika 26:404-413, https://doi.org/10.1093/biomet/26.4.404.
McNemar (1947), Psychometrika 12:153-157, https://doi.org/10.1007/BF02295996.
Newcombe (1998), Improved confidence intervals for the difference between binomial proportions based on
paired data, Stat Med 17:2635-2650.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from m2m.evaluate.statistics import MIN_SUBJECTS, Estimate


def exact_limits(count: float, n: int) -> tuple[float, float]:
    """Limits of a rate that contain the true one in at least 95 % of samples (Clopper and Pearson).

    Parameters
    ----------
    count : float
        Subjects of whom it is true; with ties, the expected number.
    n : int
        Subjects, at least 1.

    Returns
    -------
    low, high : float
        8 of 8 is .631 to 1, 0 of 8 is 0 to .369.
    """
    low = float(stats.beta.ppf(0.025, count, n - count + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return low, high


def rate(hits: ArrayLike) -> Estimate:
    """Rate of hits with its exact interval.

    Parameters
    ----------
    hits : array_like, shape (subjects,)
        1 or 0; the chance of a hit where it is undecided. NaN is left out.

    Returns
    -------
    Estimate
        Without an interval with fewer than `MIN_SUBJECTS`.
    """
    values = np.asarray(hits, np.float64)
    values = values[~np.isnan(values)]
    n = values.size
    if n == 0:
        return Estimate(float("nan"), None, None, 0)
    low, high = exact_limits(float(values.sum()), n) if n >= MIN_SUBJECTS else (None, None)
    return Estimate(float(values.mean()), low, high, n)


def rate_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Difference of two rates on the same subjects, with an interval from the exact ones of both.

    Newcombe's combination (his method 10), with exact limits of both rates in place of Wilson's.

    Parameters
    ----------
    a, b : array_like, shape (subjects,)
        Hits of the same subjects in the same order, as for `rate`.

    Returns
    -------
    Estimate
        With 8 of 8 in both, 0 with an interval of -.369 to .369.
    """
    x, y = _of_both(a, b)
    one, other = rate(x), rate(y)
    difference = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(difference, None, None, x.size)
    r = float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0

    def reach(p: float, q: float) -> float:
        return float(np.sqrt(max(p**2 - 2 * r * p * q + q**2, 0)))

    low = difference - reach(one.value - one.low, other.high - other.value)
    high = difference + reach(one.high - one.value, other.value - other.low)
    return Estimate(difference, max(low, -1.0), min(high, 1.0), x.size)


def mcnemar_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided exact p that two rates on the same subjects are equal (McNemar).

    Parameters
    ----------
    a, b : array_like, shape (subjects,)
        Hits of the same subjects in the same order, as for `rate`. Undecided ones count by their
        chance, the sums rounded.

    Returns
    -------
    float
        NaN with fewer than `MIN_SUBJECTS` subjects who have both; 1 where no subject differs.
    """
    x, y = _of_both(a, b)
    if x.size < MIN_SUBJECTS:
        return float("nan")
    more, fewer = (round(float(part.clip(0).sum())) for part in (x - y, y - x))
    return float(stats.binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


def _of_both(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits of the subjects who have both."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]
