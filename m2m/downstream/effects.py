"""Effects of age, sex or any phenotype on each region, for measured and for synthetic maps.

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
    """A value, its 95 % interval, and the number of participants."""

    value: float
    low: float
    high: float
    n_subjects: int


def slope(x: ArrayLike, y: ArrayLike) -> Effect:
    """Change of y for each unit of x: least squares, interval by Student's t.

    Parameters
    ----------
    x, y : array_like, shape (participants,)
    """
    predictor, response = np.asarray(x, float), np.asarray(y, float)
    line = stats.linregress(predictor, response)
    reach = stats.t.ppf(0.975, len(predictor) - 2) * line.stderr
    return Effect(float(line.slope), float(line.slope - reach), float(line.slope + reach), len(predictor))


def hedges_g(a: ArrayLike, b: ArrayLike) -> Effect:
    """Standardised difference of the means of a and b, corrected for few participants.

    The interval is normal, with the large-sample variance of Hedges (1981).

    Parameters
    ----------
    a, b : array_like, shape (participants of each group,)
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    n, m = len(x), len(y)
    freedom = n + m - 2
    pooled = np.sqrt(((n - 1) * x.var(ddof=1) + (m - 1) * y.var(ddof=1)) / freedom)
    g = (1 - 3 / (4 * freedom - 1)) * (x.mean() - y.mean()) / pooled
    reach = 1.96 * np.sqrt((n + m) / (n * m) + g**2 / (2 * (n + m)))
    return Effect(float(g), float(g - reach), float(g + reach), n + m)


def intraclass_correlation(values: NDArray) -> float:
    """ICC(A,1): absolute agreement of two or more measurements of the same participants.

    Parameters
    ----------
    values : ndarray, shape (participants, measurements)
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
