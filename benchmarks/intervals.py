"""Coverage of 95 % intervals, and wrong verdicts, with few subjects: which interval m2m should give.

Paired differences of two equal models are drawn from four distributions of mean 0: normal, skewed
(exponential), heavy-tailed (t with 3 degrees of freedom), and very skewed (lognormal). A verdict is
wrong where an interval excludes 0. Then rates (identification) and correlations across participants.

    python benchmarks/intervals.py    # prints the tables of docs/experiments/intervals.md
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from m2m.evaluate.rates import exact_limits, mcnemar_p, rate_difference
from m2m.evaluate.statistics import ALPHA, bootstrap_over_participants, holm, jackknife_correlation

SUBJECTS = (3, 5, 8, 10, 15, 20, 40)
SEED = 1
RESAMPLES = 1000
BASELINES = 3
Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape),
    "very skewed": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
}
RATES = (0.5, 0.85, 0.95)


def resampled_means(samples: NDArray, rng: np.random.Generator) -> NDArray:
    """Sorted means of `RESAMPLES` bootstrap resamples of each sample; samples share the resamples' indices."""
    n = samples.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.sort(samples @ counts.T / n, axis=1)


def bca_shares(samples: NDArray, means: NDArray) -> NDArray:
    """Shares of resamples at which the BCa interval of each sample ends, shape (2, draws) (Efron 1987)."""
    own = samples.mean(1, keepdims=True)
    below = ((means < own).mean(1) + (means <= own).mean(1)) / 2
    bias = stats.norm.ppf(below.clip(1 / RESAMPLES, 1 - 1 / RESAMPLES))
    centred = samples - own
    acceleration = (centred**3).sum(1) / (6 * (centred**2).sum(1) ** 1.5)
    z = bias + stats.norm.ppf([[0.025], [0.975]])
    return stats.norm.cdf(bias + z / (1 - acceleration * z))


def contains(means: NDArray, shares: NDArray, value: float) -> NDArray[np.bool_]:
    """Whether intervals that end at these shares of the sorted resampled means contain a value."""
    places = np.clip(np.round(shares * (RESAMPLES - 1)), 0, RESAMPLES - 1).astype(int)
    low, high = (np.take_along_axis(means, place[:, None], 1)[:, 0] for place in places)
    return (low <= value) & (value <= high)


def percentile_shares(draws: int) -> NDArray:
    """Shares at which percentile intervals end, shape (2, draws)."""
    return np.repeat([[0.025], [0.975]], draws, axis=1)


def covering(samples: NDArray, rng: np.random.Generator) -> tuple[NDArray[np.bool_], ...]:
    """Whether the interval of each sample, shape (draws, subjects), contains 0, its true mean: t, BCa, percentile."""
    means = resampled_means(samples, rng)
    by_t = np.abs(stats.ttest_1samp(samples, 0, axis=1).statistic) <= t_limit(samples.shape[1])
    shares = bca_shares(samples, means), percentile_shares(len(samples))
    return by_t, *(contains(means, one, 0) for one in shares)


def t_limit(n: int) -> float:
    """Largest t of n values that does not exclude 0."""
    return float(stats.t.ppf(0.975, n - 1))


def signed_ranks(samples: NDArray) -> NDArray[np.bool_]:
    """Whether Wilcoxon's test of each sample calls it different from 0."""
    return np.array([stats.wilcoxon(sample).pvalue <= ALPHA for sample in samples])


def corrected(draw: Draw, n: int, draws: int, rng: np.random.Generator) -> float:
    """Share of cohorts where any of `BASELINES` equal models is called better or worse, by p corrected by Holm."""
    values = draw(rng, (draws, BASELINES, n))
    p = stats.ttest_1samp(values, 0, axis=2).pvalue
    return float(np.mean([(holm(row) <= ALPHA).any() for row in p]))


def of_means(draws: int) -> list[tuple[str, ...]]:
    """Rows of the table of means and paired differences."""
    rows = []
    for name, draw in DISTRIBUTIONS.items():
        for n in SUBJECTS:
            rng = np.random.default_rng((SEED, n))
            samples = draw(rng, (draws, n))
            shares = [number(np.mean(one)) for one in covering(samples, rng)]
            ranks = number(np.mean(signed_ranks(samples[: draws // 4])))
            rows.append((name, str(n), *shares, ranks, number(corrected(draw, n, draws, rng))))
    return rows


def of_rates(draws: int) -> list[tuple[str, ...]]:
    """Rows of the table of rates: coverage of one rate, and of the difference of two equal ones."""
    rows = []
    for p in RATES:
        for n in SUBJECTS:
            rng = np.random.default_rng((SEED, n))
            hits = (rng.random((draws, n)) < p).astype(float)
            limits = np.array([exact_limits(k, n) for k in range(n + 1)])[hits.sum(1).astype(int)]
            exact = (limits[:, 0] <= p) & (p <= limits[:, 1])
            percentile = contains(resampled_means(hits, rng), percentile_shares(draws), p)
            other = (rng.random((draws, n)) < p).astype(float)
            pairs = list(zip(hits, other, strict=True))[: draws // 4]
            difference = [rate_difference(*pair) for pair in pairs]
            zero = [(one.low or 0) <= 0 <= (one.high or 0) for one in difference]
            wrong = [mcnemar_p(*pair) <= ALPHA for pair in pairs]
            rows.append((f"{p:g}", str(n), *(number(np.mean(one)) for one in (exact, percentile, zero, wrong))))
    return rows


def of_correlations(draws: int) -> list[tuple[str, ...]]:
    """Rows of the table of correlations across participants, of normal values."""
    rows = []
    for r in (0.0, 0.6, 0.9):
        for n in SUBJECTS[1:]:
            rng = np.random.default_rng((SEED, n))
            found: dict[str, list[bool]] = {"jackknife": [], "percentile": []}
            for _ in range(draws):
                x, noise = rng.normal(size=(2, n))
                y = r * x + np.sqrt(1 - r**2) * noise

                def value(index: NDArray, x: NDArray = x, y: NDArray = y) -> float:
                    a, b = (part[index] - part[index].mean() for part in (x, y))
                    size = np.sqrt((a @ a) * (b @ b))
                    return float(a @ b / size) if size else float("nan")

                estimates = jackknife_correlation(value, n), bootstrap_over_participants(value, n, RESAMPLES // 5, 1)
                for kind, one in zip(found, estimates, strict=True):
                    found[kind].append(one.low is not None and one.high is not None and one.low <= r <= one.high)
            rows.append((f"{r:g}", str(n), *(number(np.mean(one)) for one in found.values())))
    return rows


def number(share: float) -> str:
    """Write a share with three digits."""
    return f"{share:.3f}".lstrip("0") if share < 1 else "1"


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = [heading, ("---",) * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="samples for each row")
    options = parser.parse_args()
    headings = ("differences", "subjects", "Student's t", "BCa", "percentile", "signed ranks: wrong", "Holm: wrong")
    print(table(headings, of_means(options.draws)), flush=True)
    headings = ("rate", "subjects", "exact", "percentile", "difference", "McNemar: wrong")
    print(table(headings, of_rates(options.draws)), flush=True)
    print(table(("r", "subjects", "jackknife", "percentile"), of_correlations(options.draws // 10)))


if __name__ == "__main__":
    main()
