"""Predict a phenotype from features of images: nested cross-validation, by participant and family.

Every reported value is for participants that the predictor was not fitted to: folds come from the
cohort's split, a family lies in one fold, and a predictor's penalty is chosen inside the other
folds, again without dividing families.

References
----------
Varma and Simon (2006), Bias in error estimation when using cross-validation for model selection,
BMC Bioinformatics 7:91, https://doi.org/10.1186/1471-2105-7-91.
Hastie, Tibshirani, Friedman (2009), The Elements of Statistical Learning (ridge, kernels).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from m2m.evaluate.metrics import pearson

Kind = Literal["regression", "classification"]
# Harmonises features, shape (participants, features), by the participants who are True, shape (participants,).
Harmonise = Callable[[NDArray, NDArray[np.bool_]], NDArray]
LINEAR, KERNEL = "linear", "kernel"
PREDICTORS = (LINEAR, KERNEL)
INNER_FOLDS = 3
ALPHAS = np.logspace(-1, 4, 11)
COSTS = np.logspace(-3, 1, 5)
KERNEL_COSTS = np.logspace(-1, 2, 4)


def unchanged(x: NDArray, train: NDArray[np.bool_]) -> NDArray:
    """Leave features as they are."""
    return x


def inner_folds(kind: Kind, y: NDArray, groups: NDArray, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide training participants into folds for the choice of a penalty: by family, classes in equal shares.

    Parameters
    ----------
    kind : {'regression', 'classification'}
    y, groups : ndarray, shape (participants,)
        Phenotype and family.
    seed : int

    Returns
    -------
    list of (ndarray, ndarray)
        Indices of training and of test participants.
    """
    Folds = StratifiedGroupKFold if kind == "classification" else GroupKFold
    folds = Folds(INNER_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(y)), y, groups))


def predictor(name: str, kind: Kind, y: NDArray, groups: NDArray, seed: int) -> Pipeline:
    """Build a predictor that standardises features and chooses its penalty by inner folds.

    Parameters
    ----------
    name : {'linear', 'kernel'}
        Ridge or logistic regression; a support vector machine with a Gaussian kernel.
    kind : {'regression', 'classification'}
    y, groups : ndarray, shape (participants,)
        Phenotype and family of the participants that it will be fitted to.
    seed : int

    Returns
    -------
    Pipeline
        Not yet fitted.

    Raises
    ------
    ValueError
        There is no such predictor.
    """
    alone = len(set(groups)) == len(groups)
    # Ridge has a closed form for leave-one-out, which divides no family where there are none.
    closed = name == LINEAR and kind == "regression"
    inner = None if alone and closed else inner_folds(kind, y, groups, seed)
    match name, kind:
        case "linear", "regression":
            last = RidgeCV(ALPHAS, cv=inner)
        case "linear", "classification":
            last = LogisticRegressionCV(
                Cs=COSTS,
                cv=inner,
                scoring="neg_log_loss",
                l1_ratios=(0.0,),
                solver="newton-cholesky",
                use_legacy_attributes=False,
            )
        case "kernel", _:
            machine = SVR() if kind == "regression" else SVC()
            last = GridSearchCV(machine, {"C": KERNEL_COSTS}, cv=inner)
            if kind == "regression":  # margin and cost are in units of y
                last = TransformedTargetRegressor(last, transformer=StandardScaler())
        case _:
            raise ValueError(f"predictor must be one of {PREDICTORS}, got {name!r}")
    return make_pipeline(StandardScaler(), last)


class Predicted(NamedTuple):
    """Out-of-fold predictions.

    Attributes
    ----------
    values : ndarray, shape (participants,) or (participants, classes)
        Predicted numbers; for classes a score for each, the largest of which is the prediction.
        Linear predictors give probabilities.
    baseline : ndarray, shape (participants,) or (participants, classes)
        Prediction without features, from the phenotypes of the other folds only: their mean, or the
        share of each class.
    folds : ndarray, shape (participants,)
    """

    values: NDArray[np.float64]
    baseline: NDArray[np.float64]
    folds: NDArray

    def of(self, index: NDArray[np.intp]) -> "Predicted":
        """Select participants by index; one may occur more than once."""
        return Predicted(*(part[index] for part in self))


def baseline_of(kind: Kind, y: NDArray, folds: NDArray) -> NDArray[np.float64]:
    """Predict without features: the mean of the other folds, or their share of each class.

    Parameters
    ----------
    kind : {'regression', 'classification'}
    y, folds : ndarray, shape (participants,)

    Returns
    -------
    ndarray, shape (participants,) or (participants, classes)
    """
    values = y[:, None] == np.unique(y) if kind == "classification" else y
    baseline = np.full(values.shape, np.nan)
    for fold in np.unique(folds):
        baseline[folds == fold] = values[folds != fold].mean(axis=0)
    return baseline


def are_probabilities(values: NDArray) -> bool:
    """Whether scores of classes, shape (participants, classes), are probabilities."""
    return bool(np.allclose(values.sum(axis=1), 1, atol=1e-4) and values.min() >= 0)


def scores(model: Pipeline, x: NDArray) -> NDArray[np.float64]:
    """Predict numbers, shape (participants,), or scores of classes, shape (participants, classes)."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(x)
    if hasattr(model, "decision_function"):
        decision = model.decision_function(x)
        return np.stack([-decision, decision], 1) if decision.ndim == 1 else decision
    return model.predict(x)


def predict_out_of_fold(
    name: str,
    kind: Kind,
    x: NDArray,
    y: NDArray,
    folds: NDArray,
    groups: NDArray,
    seed: int,
    applied_to: NDArray | None = None,
    harmonise: Harmonise = unchanged,
) -> Predicted:
    """Fit to all folds but one, predict that one, for each.

    Parameters
    ----------
    name, kind
        See `predictor`.
    x : ndarray, shape (participants, features)
    y : ndarray, shape (participants,)
        Numbers, or classes 0 to n - 1.
    folds, groups : ndarray, shape (participants,)
        Fold and family of each participant; a family lies in one fold.
    seed : int
    applied_to : ndarray, shape (participants, features), optional
        Features of the predicted participants, in place of `x`: to apply a predictor fitted to
        measured FA to synthetic FA.
    harmonise : Harmonise
        Fitted to the training participants, and applied to all.

    Returns
    -------
    Predicted

    Raises
    ------
    ValueError
        A family lies in two folds.
    """
    if any(len(set(folds[groups == group])) > 1 for group in set(groups)):
        raise ValueError("a family lies in two folds")
    baseline = baseline_of(kind, y, folds)
    values = np.full(baseline.shape, np.nan)
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        model = predictor(name, kind, y[train], groups[train], seed)
        features = harmonise(x, train)
        model.fit(features[train], y[train])
        if applied_to is not None:
            features = harmonise(applied_to, train)
        values[test] = scores(model, features[test])
    return Predicted(values, baseline, folds)


def mean_error(y: NDArray, predicted: Predicted) -> float:
    """Mean absolute error of numbers."""
    return float(np.abs(y - predicted.values).mean())


def explained(y: NDArray, predicted: Predicted) -> float:
    """1 - sum of squared errors / that of the other folds' mean.

    0 for a predictor that always predicts the mean, negative for a worse one.
    """
    error, baseline = y - predicted.values, y - predicted.baseline
    return float(1 - (error**2).sum() / (baseline**2).sum())


def mean_within_folds(measure: Callable[[NDArray[np.intp]], float], folds: NDArray) -> float:
    """Mean over folds of a measure within each fold; NaN where it is undefined in all.

    Pooled over folds a predictor without information looks worse than chance: that of a fold with
    older participants, or with more of one class, was fitted to the others.
    """
    found = np.array([measure(np.flatnonzero(folds == fold)) for fold in np.unique(folds)])
    found = found[np.isfinite(found)]
    return float(found.mean()) if found.size else float("nan")


def correlation(y: NDArray, predicted: Predicted) -> float:
    """Pearson's r of numbers within folds; NaN where all are the same."""
    return mean_within_folds(lambda index: pearson(y[index], predicted.values[index]), predicted.folds)


def area_within_folds(truth: NDArray[np.bool_], score: NDArray, folds: NDArray) -> float:
    """Share of pairs (one of the class, one not, within a fold) that scores rank correctly.

    A predictor without information predicts the share of each class in its training folds, which is
    low where that of the own fold is high, so pairs across folds would give less than chance.

    Parameters
    ----------
    truth : ndarray of bool, shape (participants,)
        Whether a participant is of the class.
    score, folds : ndarray, shape (participants,)

    Returns
    -------
    float
        0 to 1; NaN without pairs.
    """
    right, pairs = 0.0, 0
    for fold in np.unique(folds):
        own, ranks = truth[folds == fold], rankdata(score[folds == fold])
        n = int(own.sum())
        right += ranks[own].sum() - n * (n + 1) / 2  # Mann and Whitney's U
        pairs += n * int((~own).sum())
    return right / pairs if pairs else float("nan")


def _truth(y: NDArray, predicted: Predicted) -> NDArray[np.bool_] | None:
    """Class membership, shape (participants, classes); None where a class has no participant."""
    truth = y[:, None] == np.arange(predicted.values.shape[1])
    return truth if truth.any(axis=0).all() else None


def area(y: NDArray, predicted: Predicted) -> float:
    """Area under the ROC curve within folds (`area_within_folds`), mean over each class against the rest."""
    if (truth := _truth(y, predicted)) is None:
        return float("nan")
    # Both of two classes have the same area.
    classes = range(1 if truth.shape[1] == 2 else 0, truth.shape[1])
    return float(np.mean([area_within_folds(truth[:, c], predicted.values[:, c], predicted.folds) for c in classes]))


def balanced_accuracy(y: NDArray, predicted: Predicted) -> float:
    """Mean over classes of the share of their participants whose class has the largest score.

    Mean over the folds that have participants of every class.
    """
    right = predicted.values.argmax(axis=1) == y

    def of_fold(index: NDArray[np.intp]) -> float:
        if (truth := _truth(y[index], predicted)) is None:
            return float("nan")
        return float(np.mean([right[index][members].mean() for members in truth.T]))

    return mean_within_folds(of_fold, predicted.folds)


def brier_skill(y: NDArray, predicted: Predicted) -> float:
    """1 - Brier score / that of the other folds' shares; NaN where scores are not probabilities."""
    if (truth := _truth(y, predicted)) is None or not are_probabilities(predicted.values):
        return float("nan")
    own, baseline = (((truth - p) ** 2).sum() for p in (predicted.values, predicted.baseline))
    return float(1 - own / baseline)


METRICS: dict[Kind, dict[str, Callable[[NDArray, Predicted], float]]] = {
    "regression": {"mae": mean_error, "r2": explained, "r": correlation},
    "classification": {
        "auc": area,
        "balanced_accuracy": balanced_accuracy,
        "brier_skill": brier_skill,
    },
}
# Metric of the permutation test, and first in every table.
MAIN = {"regression": "r2", "classification": "auc"}
# Smallest and largest value of each metric, beyond which its interval by Student's t does not reach.
BOUNDS = {
    "mae": (0, np.inf),
    "r2": (-np.inf, 1),
    "r": (-1, 1),
    "auc": (0, 1),
    "balanced_accuracy": (0, 1),
    "brier_skill": (-np.inf, 1),
}
CHANCE = {"r2": 0.0, "r": 0.0, "auc": 0.5, "balanced_accuracy": 0.5, "brier_skill": 0.0}
