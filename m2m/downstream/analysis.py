"""Tables about phenotypes: predictions from each input, their scores, comparison, calibration and agreement."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from m2m.downstream.image_tables import Row
from m2m.downstream.inputs import COVARIATES, Subjects, combinations
from m2m.downstream.permutation import Permuted
from m2m.downstream.prediction import (
    BOUNDS,
    CHANCE,
    LINEAR,
    MAIN,
    METRICS,
    PREDICTORS,
    Predicted,
    are_probabilities,
    baseline_of,
    predict_out_of_fold,
)
from m2m.downstream.targets import Target
from m2m.evaluate.rates import rate
from m2m.evaluate.statistics import (
    Estimate,
    bootstrap_over_participants,
    holm,
    intraclass_correlation,
    over_folds,
    student_mean,
)
from m2m.options import Downstream
from m2m.options.downstream_options import ATLAS, T1, with_measured

# By (input, predictor).
Found = dict[tuple[str, str], Predicted]
# Predictor whose inputs are volumes.
CNN = "cnn"
Measure = Callable[[NDArray, Predicted], float]
CALIBRATION_BINS = 5


def predict_all(
    target: Target,
    subjects: Subjects,
    volumes: Mapping[str, NDArray],
    options: Downstream,
    predictors: Sequence[str] = PREDICTORS,
) -> Found:
    """Predict one phenotype out of fold, by input and predictor.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    volumes : mapping of str to ndarray
        Predictions of networks from volumes, by input; see `m2m.downstream.phenotype_cnn`.
    options : Downstream
    predictors : sequence of str

    Returns
    -------
    dict
        Predictions by (input, predictor).
    """
    known = subjects.of(target.subjects)
    found = {
        (name, predictor): predict_out_of_fold(
            predictor,
            target.kind,
            x,
            target.y,
            known.folds,
            known.families,
            options.seed,
            harmonise=known.harmoniser(name, target.name),
        )
        for name, x in combinations(known).items()
        for predictor in predictors
    }
    baseline = baseline_of(target.kind, target.y, known.folds)
    return found | {(name, CNN): Predicted(values, baseline, known.folds) for name, values in volumes.items()}


def errors(target: Target, predicted: Predicted) -> tuple[NDArray, NDArray]:
    """Errors of the prediction and of the baseline for each participant: absolute, or 1 - score of the class."""
    y = target.y
    if target.kind == "regression":
        return np.abs(y - predicted.values), np.abs(y - predicted.baseline)
    own = np.arange(len(y)), y
    return 1 - predicted.values[own], 1 - predicted.baseline[own]


def intervals(
    statistic: Callable[[NDArray[np.intp]], float], folds: NDArray, options: Downstream
) -> tuple[Estimate, Estimate]:
    """Compute two intervals: with the variation between training sets, and with fixed predictors.

    Parameters
    ----------
    statistic : callable
        Takes indices of participants, shape (participants,); returns the value.
    folds : ndarray, shape (participants,)
    options : Downstream

    Returns
    -------
    over_folds, fixed : Estimate
    """
    fixed = bootstrap_over_participants(statistic, len(folds), options.bootstrap, options.seed)
    return over_folds(statistic, folds), fixed


def score(metric: str, estimate: Estimate, fixed: Estimate) -> Row:
    """Columns of a metric: its value, and the limits of `intervals` within what it can be; NaN where there is none."""
    low, high = np.clip(np.array([estimate.low, estimate.high], float), *BOUNDS[metric]).tolist()
    return {
        "metric": metric,
        "value": estimate.value,
        "low": low,
        "high": high,
        "fixed_low": fixed.low,
        "fixed_high": fixed.high,
    }


def score_rows(
    target: Target,
    found: Found,
    permuted: Mapping[str, Permuted],
    widths: Mapping[str, int],
    options: Downstream,
) -> Iterator[Row]:
    """Yield each metric of each input and predictor with its interval over participants.

    Parameters
    ----------
    target : Target
    found : dict
        Predictions by (input, predictor).
    permuted : mapping of str to Permuted
        Permutation test by input; reported for the main metric of the linear predictor, p corrected
        over the inputs.
    widths : mapping of str to int
        Number of features by input.
    options : Downstream

    Yields
    ------
    dict
        Row of scores.tsv.
    """
    corrected = dict(zip(permuted, holm([by.p for by in permuted.values()]), strict=True))
    for (name, predictor), predicted in found.items():
        for metric, measure in METRICS[target.kind].items():

            def value(index: NDArray, predicted: Predicted = predicted, measure: Measure = measure) -> float:
                return measure(target.y[index], predicted.of(index))

            estimate, fixed = intervals(value, predicted.folds, options)
            linear = predictor == LINEAR and metric == MAIN[target.kind]
            by_chance = permuted.get(name) if linear else None
            yield {
                "target": target.name,
                "kind": target.kind,
                "input": name,
                "predictor": predictor,
                **score(metric, estimate, fixed),
                "chance": CHANCE.get(metric),
                "chance_low": by_chance and by_chance.low,
                "chance_high": by_chance and by_chance.high,
                "p_permutation": by_chance and by_chance.p,
                "p_holm": corrected[name] if by_chance else None,
                "n_subjects": len(target.y),
                "n_missing": target.n_missing,
                "n_features": widths.get(name) if predictor != CNN else None,
            }


def pairs(measured_of: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of inputs that are compared: with the T1 alone, measured image, atlas and covariates."""
    yield T1, COVARIATES
    for image in dict.fromkeys([*filter(None, measured_of.values()), *measured_of]):
        yield image, T1
        yield f"{T1}+{image}", T1  # information that the T1 does not have
        if measured := measured_of.get(image):
            yield image, measured
        if image != ATLAS and image in measured_of and ATLAS in measured_of:
            yield image, ATLAS
        yield image, COVARIATES


def comparison_rows(
    target: Target,
    found: Found,
    wanted: Iterable[tuple[str, str]],
    options: Downstream,
) -> Iterator[Row]:
    """Yield differences between two inputs on the same participants; p of their errors by signed ranks.

    Parameters
    ----------
    target : Target
    found : dict
        Predictions by (input, predictor).
    wanted : iterable of (str, str)
        Pairs of inputs.
    options : Downstream

    Yields
    ------
    dict
        Row of comparison.tsv.
    """
    main = MAIN[target.kind]
    measure = METRICS[target.kind][main]
    for predictor in dict.fromkeys(predictor for _, predictor in found):
        rows: list[Row] = []
        for name, reference in wanted:
            if (name, predictor) not in found or (reference, predictor) not in found:
                continue
            a, b = found[name, predictor], found[reference, predictor]

            def difference(index: NDArray, a: Predicted = a, b: Predicted = b) -> float:
                y = target.y[index]
                return measure(y, a.of(index)) - measure(y, b.of(index))

            estimate, fixed = intervals(difference, a.folds, options)
            error_difference = errors(target, a)[0] - errors(target, b)[0]
            p = stats.wilcoxon(error_difference).pvalue if np.any(error_difference) else float("nan")
            rows.append(
                {
                    "target": target.name,
                    "input": name,
                    "reference_input": reference,
                    "predictor": predictor,
                    "metric": main,
                    "difference": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "fixed_low": fixed.low,
                    "fixed_high": fixed.high,
                    "p": p,
                    "n_subjects": len(target.y),
                }
            )
        for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
            yield row | {"p_holm": corrected}


def transfer_rows(
    target: Target, subjects: Subjects, measured_of: Mapping[str, str | None], options: Downstream
) -> Iterator[Row]:
    """Yield scores of predictors fitted to measured maps and applied to synthetic ones, and vice versa.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    options : Downstream

    Yields
    ------
    dict
        Row of transfer.tsv.
    """
    known = subjects.of(target.subjects)
    for synthetic, measured in with_measured(measured_of).items():
        images = known.images
        shared = images[synthetic].columns.intersection(images[measured].columns)
        tables = {name: images[name][shared].to_numpy(float) for name in (synthetic, measured)}
        for trained, applied in ((measured, synthetic), (synthetic, measured)):
            predicted = predict_out_of_fold(
                LINEAR,
                target.kind,
                tables[trained],
                target.y,
                known.folds,
                known.families,
                options.seed,
                tables[applied],
                known.harmoniser(synthetic, target.name),
            )
            for metric, measure in METRICS[target.kind].items():
                yield {
                    "target": target.name,
                    "trained_on": trained,
                    "applied_to": applied,
                    "metric": metric,
                    "value": measure(target.y, predicted),
                    "n_subjects": len(target.y),
                }


def agreement_rows(target: Target, found: Found, measured_of: Mapping[str, str | None]) -> Iterator[Row]:
    """Yield the ICC of the gap, predicted minus actual value, between measured and synthetic maps.

    Parameters
    ----------
    target : Target
    found : dict
        Predictions by (input, predictor).
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.

    Yields
    ------
    dict
        Row of agreement.tsv. ``icc_corrected`` is the ICC of gaps after removing their regression
        line on the actual value: predictors shrink towards the mean, so gaps agree by that line alone.
    """
    if target.kind == "classification":
        return
    for synthetic, measured in with_measured(measured_of).items():
        both = [found[name, LINEAR].values - target.y for name in (measured, synthetic)]
        gaps = np.stack(both, axis=1)
        lines = np.polynomial.polynomial.polyfit(target.y, gaps, 1)  # (2, 2): term, image
        corrected = gaps - np.outer(target.y, lines[1]) - lines[0]
        yield {
            "target": target.name,
            "measured": measured,
            "synthetic": synthetic,
            "icc": intraclass_correlation(gaps),
            "icc_corrected": intraclass_correlation(corrected),
            "n_subjects": len(target.y),
        }


def prediction_rows(target: Target, found: Found) -> Iterator[Row]:
    """Yield the prediction for each participant; for classes, the score of the last class."""
    for (name, predictor), predicted in found.items():
        values = predicted.values if target.kind == "regression" else predicted.values[:, -1]
        own, baseline = errors(target, predicted)
        for i, subject in enumerate(target.subjects):
            yield {
                "target": target.name,
                "input": name,
                "predictor": predictor,
                "participant_id": subject,
                "fold": predicted.folds[i],
                "actual": target.y[i] if not target.classes else target.classes[target.y[i]],
                "predicted": values[i],
                "error": own[i],
                "baseline_error": baseline[i],
            }


def calibration_rows(target: Target, found: Found) -> Iterator[Row]:
    """Yield mean predicted and mean actual values in bins of equal size, ordered by prediction.

    For classes, the probability and the share of the last class; predictors whose scores are not
    probabilities are left out. ``low`` and ``high`` are the interval of the actual value: exact for a
    share, by Student's t for a mean.
    """
    for (name, predictor), predicted in found.items():
        values, actual = predicted.values, target.y
        if target.kind == "classification":
            if not are_probabilities(values):
                continue
            values, actual = values[:, -1], (target.y == len(target.classes) - 1).astype(float)
        interval = student_mean if target.kind == "regression" else rate
        for i, members in enumerate(np.array_split(np.argsort(values, kind="stable"), CALIBRATION_BINS), 1):
            share = interval(actual[members])
            yield {
                "target": target.name,
                "input": name,
                "predictor": predictor,
                "bin": i,
                "predicted": values[members].mean(),
                "actual": share.value,
                "low": share.low,
                "high": share.high,
                "n_subjects": share.n_subjects,
            }
