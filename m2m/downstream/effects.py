"""Effects of age, sex or any phenotype on each region, measured beside synthetic.

References
----------
Hedges (1981), J Educ Stat 6:107-128, https://doi.org/10.3102/10769986006002107.
McGraw and Wong (1996), Psychol Methods 1:30-46, https://doi.org/10.1037/1082-989X.1.1.30.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Effect:
    """A value, its 95 % interval, and how many people it is of."""

    value: float
    low: float
    high: float
    n_people: int


def slope(x: ArrayLike, y: ArrayLike) -> Effect:
    """Change of y for each unit of x: least squares, interval by Student's t.

    Parameters
    ----------
    x, y : array_like, shape (people,)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    line = stats.linregress(x, y)
    reach = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    return Effect(float(line.slope), float(line.slope - reach), float(line.slope + reach), len(x))


def hedges_g(a: ArrayLike, b: ArrayLike) -> Effect:
    """Standardised difference of the means of a and b, corrected for few people.

    The interval is normal, with the large-sample variance of Hedges (1981).

    Parameters
    ----------
    a, b : array_like, shape (people of each group,)
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    n, m = len(a), len(b)
    freedom = n + m - 2
    pooled = np.sqrt(((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / freedom)
    g = (1 - 3 / (4 * freedom - 1)) * (a.mean() - b.mean()) / pooled
    reach = 1.96 * np.sqrt((n + m) / (n * m) + g**2 / (2 * (n + m)))
    return Effect(float(g), float(g - reach), float(g + reach), n + m)


def intraclass_correlation(values: NDArray) -> float:
    """ICC(A,1): absolute agreement of two or more ways to measure the same people.

    Parameters
    ----------
    values : ndarray, shape (people, ways)
    """
    n, k = values.shape
    mean = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    ms_rows = k * ((rows - mean) ** 2).sum() / (n - 1)
    ms_columns = n * ((columns - mean) ** 2).sum() / (k - 1)
    residual = values - rows[:, None] - columns + mean
    ms_error = (residual**2).sum() / ((n - 1) * (k - 1))
    spread = ms_rows + (k - 1) * ms_error + k * (ms_columns - ms_error) / n
    return float((ms_rows - ms_error) / spread)
