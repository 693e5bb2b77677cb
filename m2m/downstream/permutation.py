"""Test whether a phenotype is predicted better than its permutations are.

References
----------
Ojala and Garriga (2010), Permutation tests for studying classifier performance, J Mach Learn Res
11:1833-1863.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from m2m.downstream.prediction import ALPHAS, MAIN, METRICS, Harmonise, Kind, Predicted, baseline_of, unchanged


def ridge_out_of_fold(
    x: NDArray, targets: NDArray, folds: NDArray, harmonise: Harmonise = unchanged
) -> NDArray[np.float64]:
    """Predict many targets of each participant by ridge regression fitted to the other folds.

    Each target has its own penalty, chosen by leave-one-out in closed form.

    Parameters
    ----------
    x : ndarray, shape (participants, features)
    targets : ndarray, shape (participants, targets)
    folds : ndarray, shape (participants,)
    harmonise : Harmonise
        As of `predict_out_of_fold`.

    Returns
    -------
    ndarray, shape (participants, targets)
    """
    values = np.full(targets.shape, np.nan)
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))
        features = harmonise(x, train)
        values[test] = model.fit(features[train], targets[train]).predict(features[test])
    return values


class Permuted(NamedTuple):
    """Result of a permutation test.

    Attributes
    ----------
    p : float
        (1 + permutations at least as good) / (1 + permutations).
    low, high : float
        Bounds of the middle 95 % of the permutations' scores.
    """

    p: float
    low: float
    high: float


def permutation_test(
    kind: Kind,
    x: NDArray,
    y: NDArray,
    folds: NDArray,
    n_permutations: int,
    seed: int,
    harmonise: Harmonise = unchanged,
) -> Permuted:
    """Test by permutations whether features and phenotype are independent, with ridge regression.

    The whole nested cross-validation runs again for each permutation; classes are predicted through
    their indicators.

    Parameters
    ----------
    kind : {'regression', 'classification'}
    x : ndarray, shape (participants, features)
    y, folds : ndarray, shape (participants,)
    n_permutations, seed : int
    harmonise : Harmonise
        As of `predict_out_of_fold`.

    Returns
    -------
    Permuted
        All NaN without permutations.
    """
    if not n_permutations:
        return Permuted(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    permuted = np.stack([y, *(rng.permutation(y) for _ in range(n_permutations))])  # (1 + n, participants)
    classes = np.unique(y) if kind == "classification" else [None]
    targets = np.stack([permuted if c is None else (permuted == c) * 1.0 for c in classes], axis=-1)
    predicted = ridge_out_of_fold(x, np.concatenate(targets, axis=-1), folds, harmonise)  # (participants, (1 + n) C)
    predicted = predicted.reshape(len(y), len(permuted), len(classes))
    measure = METRICS[kind][MAIN[kind]]
    found = []
    for i, values in enumerate(permuted):
        own = predicted[:, i] if kind == "classification" else predicted[:, i, 0]
        found.append(measure(values, Predicted(own, baseline_of(kind, values, folds), folds)))
    by_chance = np.array(found[1:])
    p = (1 + int((by_chance >= found[0]).sum())) / (1 + n_permutations)
    return Permuted(p, *np.quantile(by_chance, (0.025, 0.975)).tolist())
