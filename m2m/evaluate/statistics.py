"""Statistics over subjects: intervals, paired differences, corrected p, agreement.

Intervals of means and of paired differences are Student's t. Those of bootstrap resamples are too
short with few participants: see docs/experiments/intervals.md.

References
----------
Student (1908), The probable error of a mean, Biometrika 6:1-25, https://doi.org/10.1093/biomet/6.1.1.
Welch (1947), The generalization of Student's problem when several different population variances are involved,
Biometrika 34:28-35, https://doi.org/10.1093/biomet/34.1-2.28.
Efron and Stein (1981), The jackknife estimate of variance, Ann Stat 9:586-596,
https://doi.org/10.1214/aos/1176345462.
Nadeau and Bengio (2003), Inference for the generalization error, Mach Learn 52:239-281,
https://doi.org/10.1023/A:1024068626366.
Holm (1979), A simple sequentially rejective multiple test procedure, Scand J Stat 6:65-70.
Shrout and Fleiss (1979), Intraclass correlations, Psychol Bull 86:420-428, https://doi.org/10.1037/0033-2909.86.2.420.
McGraw and Wong (1996), Psychol Methods 1:30-46, https://doi.org/10.1037/1082-989X.1.1.30.
Bland and Altman (1986), Lancet 327:307-310, https://doi.org/10.1016/S0140-6736(86)90837-8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_SUBJECTS = 3
# Largest corrected p of a difference that is called one.
ALPHA = 0.05
# Largest correlation that is transformed to Fisher's z.
LARGEST_R = 1 - 1e-6


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval over subjects; None with fewer than `MIN_SUBJECTS`."""

    value: float
    low: float | None
    high: float | None
    n_subjects: int


def student_mean(values: ArrayLike) -> Estimate:
    """Mean over subjects with its interval by Student's t.

    Parameters
    ----------
    values : array_like, shape (subjects,)
        NaN (a metric that is not defined for a subject) is left out.

    Returns
    -------
    Estimate

    Notes
    -----
    Of normal and of heavy-tailed values 95 % of the intervals cover the population mean, whatever
    their number; of exponential ones, 89 % with 3 or 10 subjects and 94 % with 40.
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    if sample.size == 0:
        return Estimate(float("nan"), None, None, 0)
    mean = float(sample.mean())
    if sample.size < MIN_SUBJECTS or not np.isfinite(mean):
        return Estimate(mean, None, None, sample.size)
    half = _reach(sample.size) * float(sample.std(ddof=1) / np.sqrt(sample.size))
    return Estimate(mean, mean - half, mean + half, sample.size)


def _reach(n: int) -> float:
    """Standard errors on each side of a 95 % interval by Student's t of n values."""
    return float(stats.t.ppf(0.975, n - 1))


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference ``a - b`` of two means over different subjects, with its interval by Welch's t.

    Parameters
    ----------
    a, b : Estimate
        Of `student_mean`.

    Returns
    -------
    Estimate
        Without an interval where one of the means has none; of so many subjects as both have.
    """
    n, difference = a.n_subjects + b.n_subjects, a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(difference, None, None, n)
    # Squared standard errors, from the intervals.
    of_a = ((a.high - a.low) / 2 / _reach(a.n_subjects)) ** 2
    of_b = ((b.high - b.low) / 2 / _reach(b.n_subjects)) ** 2
    if of_a + of_b == 0:
        return Estimate(difference, difference, difference, n)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (a.n_subjects - 1) + of_b**2 / (b.n_subjects - 1))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(of_a + of_b))
    return Estimate(difference, difference - half, difference + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Mean of ``a - b`` over subjects who have both, with its interval by Student's t.

    Parameters
    ----------
    a, b : array_like, shape (subjects,)
        The same subjects in the same order.

    Returns
    -------
    Estimate
    """
    return student_mean(_differences(a, b))


def paired_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of the mean of ``a - b`` by Student's t: at most .05 where its interval excludes 0.

    Parameters
    ----------
    a, b : array_like, shape (subjects,)
        The same subjects in the same order.

    Returns
    -------
    float
        NaN with fewer than `MIN_SUBJECTS` subjects who have both, and where all have the same in both.
    """
    differences = _differences(a, b)
    if differences.size < MIN_SUBJECTS or not differences.any():
        return float("nan")
    if np.ptp(differences) == 0:
        return 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Differences of the subjects who have both values."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    return x[both] - y[both]


def jackknife_correlation(statistic: Callable[[NDArray[np.intp]], float], n_subjects: int) -> Estimate:
    """Interval of a correlation of the whole group, by the jackknife of its Fisher's z and Student's t.

    Parameters
    ----------
    statistic : callable
        Takes indices of participants, shape (participants,); returns a correlation, or a mean of
        correlations.
    n_subjects : int

    Returns
    -------
    Estimate
        Without an interval where a value is undefined when one participant is left out.
    """
    all_subjects = np.arange(n_subjects)
    value = float(statistic(all_subjects))
    if n_subjects <= MIN_SUBJECTS or np.isnan(value):
        return Estimate(value, None, None, n_subjects)
    left_out = np.array([statistic(np.delete(all_subjects, i)) for i in all_subjects])
    z, every_z = np.arctanh(np.clip(value, -LARGEST_R, LARGEST_R)), np.arctanh(left_out.clip(-LARGEST_R, LARGEST_R))
    if not np.isfinite(every_z).all():
        return Estimate(value, None, None, n_subjects)
    half = _reach(n_subjects) * np.sqrt((n_subjects - 1) * every_z.var())
    return Estimate(value, float(np.tanh(z - half)), float(np.tanh(z + half)), n_subjects)


def bootstrap_over_participants(
    statistic: Callable[[NDArray[np.intp]], float], n_subjects: int, n_resamples: int, seed: int
) -> Estimate:
    """Percentile interval of a statistic of the whole group, resampling participants; too short for few.

    Parameters
    ----------
    statistic : callable
        Takes indices of participants, shape (participants,); returns the value.
    n_subjects, n_resamples, seed : int

    Returns
    -------
    Estimate
    """
    value = float(statistic(np.arange(n_subjects)))
    if n_subjects < MIN_SUBJECTS or np.isnan(value):
        return Estimate(value, None, None, n_subjects)
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, n_subjects, n_subjects)) for _ in range(n_resamples)]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return Estimate(value, float(low), float(high), n_subjects)


def over_folds(statistic: Callable[[NDArray[np.intp]], float], folds: NDArray) -> Estimate:
    """Interval of a cross-validated statistic, corrected for training participants shared by the folds.

    Student's t of the values of the folds, their variance enlarged as Nadeau and Bengio (2003)
    propose. Resampling participants with fixed predictions ignores the variation between training
    sets, so its intervals are too short.

    Parameters
    ----------
    statistic : callable
        Takes indices of participants, shape (participants,); NaN where it is undefined in a fold.
    folds : ndarray, shape (participants,)
        Fold of each participant; at least two folds.

    Returns
    -------
    Estimate
    """
    all_subjects = np.arange(len(folds))
    value = float(statistic(all_subjects))
    names = np.unique(folds)
    found = np.array([statistic(all_subjects[folds == name]) for name in names])
    found = found[np.isfinite(found)]
    if len(found) < MIN_SUBJECTS or not np.isfinite(value):
        return Estimate(value, None, None, len(folds))
    variance = found.var(ddof=1) * (1 / len(found) + 1 / (len(names) - 1))
    half = float(stats.t.ppf(0.975, len(found) - 1) * np.sqrt(variance))
    return Estimate(value, value - half, value + half, len(folds))


def band(curves: NDArray[np.float64]) -> tuple[NDArray, ...]:
    """Mean curve over subjects and its 95 % band by Student's t, point by point.

    Parameters
    ----------
    curves : ndarray, shape (subjects, points)
        NaN where a subject has no value at a point.

    Returns
    -------
    mean, low, high : ndarray, shape (points,)
        NaN at points without a value; low and high are NaN at points with fewer than `MIN_SUBJECTS`.
    """
    found = [student_mean(values) for values in np.asarray(curves, np.float64).T]
    limits = np.array([(one.value, one.low, one.high) for one in found], dtype=np.float64)
    return tuple(limits.reshape(-1, 3).T)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p values of one family by Holm's step-down procedure.

    Parameters
    ----------
    p : array_like, shape (tests,)
        NaN (an undefined test) stays NaN and is not counted.

    Returns
    -------
    ndarray, shape (tests,)
        The k-th smallest of m is multiplied by m - k + 1, is at least the previous one, and at
        most 1.
    """
    values = np.asarray(p, np.float64)
    corrected = np.full_like(values, np.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    stepped = values[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected


def limits_of_agreement(differences: ArrayLike) -> tuple[float, float, float]:
    """Bias, and the limits between which 95 % of normal differences lie (Bland and Altman).

    Parameters
    ----------
    differences : array_like, shape (n,)

    Returns
    -------
    bias, low, high : float
        Mean, and mean -+ 1.96 standard deviations (divisor n - 1); limits of one value are NaN.
    """
    values = np.asarray(differences, np.float64)
    bias = float(values.mean())
    reach = 1.96 * float(values.std(ddof=1)) if values.size > 1 else float("nan")
    return bias, bias - reach, bias + reach


def slope(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Change of y for each unit of x: least squares, interval by Student's t.

    Parameters
    ----------
    x, y : array_like, shape (participants,)

    Returns
    -------
    Estimate
        NaN where x does not vary.
    """
    predictor, response = np.asarray(x, float), np.asarray(y, float)
    n = len(predictor)
    if n < 2 or np.ptp(predictor) == 0:
        return Estimate(float("nan"), None, None, n)
    line = stats.linregress(predictor, response)
    if n < MIN_SUBJECTS:
        return Estimate(float(line.slope), None, None, n)
    reach = stats.t.ppf(0.975, n - 2) * line.stderr
    return Estimate(float(line.slope), float(line.slope - reach), float(line.slope + reach), n)


def intraclass_correlation(values: NDArray) -> float:
    """ICC(A,1): absolute agreement of two or more measurements of the same participants.

    Parameters
    ----------
    values : ndarray, shape (participants, measurements)

    Returns
    -------
    float
        ICC(2,1) of Shrout and Fleiss; NaN where no value differs from another.
    """
    n, k = values.shape
    mean = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    ms_rows = k * ((rows - mean) ** 2).sum() / (n - 1)
    ms_columns = n * ((columns - mean) ** 2).sum() / (k - 1)
    residual = values - rows[:, None] - columns + mean
    ms_error = (residual**2).sum() / ((n - 1) * (k - 1))
    spread = ms_rows + (k - 1) * ms_error + k * (ms_columns - ms_error) / n
    return float((ms_rows - ms_error) / spread) if spread else float("nan")
