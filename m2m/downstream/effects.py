"""Effect of a phenotype of two classes on each region, for measured and for synthetic maps.

References
----------
Hedges (1981), J Educ Stat 6:107-128, https://doi.org/10.3102/10769986006002107.
"""

import numpy as np
from numpy.typing import ArrayLike

from m2m.evaluate.statistics import Estimate


def hedges_g(a: ArrayLike, b: ArrayLike) -> Estimate:
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
    return Estimate(float(g), float(g - reach), float(g + reach), n + m)
