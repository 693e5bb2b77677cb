"""Tables about phenotypes: what is predicted from each image, and what each says of regions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from m2m.downstream.effects import hedges_g, intraclass_correlation, slope
from m2m.downstream.features import BIN
from m2m.downstream.inputs import COVARIATES, People, combinations
from m2m.downstream.prediction import (
    CHANCE,
    LINEAR,
    MAIN,
    METRICS,
    PREDICTORS,
    Permuted,
    Predicted,
    are_probabilities,
    predict_out_of_fold,
    usual_of,
)
from m2m.downstream.targets import Target
from m2m.evaluate.statistics import Estimate, bootstrap_over_people, holm, over_folds
from m2m.options import Downstream
from m2m.options.downstream_options import FA, NOISE_FREE, T1

Row = dict[str, Any]
# By (input, predictor).
Found = dict[tuple[str, str], Predicted]
# Predictor that sees volumes.
CNN = "cnn"
Measure = Callable[[NDArray, Predicted], float]
CALIBRATION_BINS = 5


def predict_all(
    target: Target, people: People, volumes: Mapping[str, NDArray], options: Downstream
) -> Found:
    """Out-of-fold predictions of one phenotype, by input and predictor.

    Parameters
    ----------
    target : Target
    people : People
    volumes : mapping of str to ndarray
        What networks said that saw volumes, by input; see `m2m.downstream.cnn`.
    options : Downstream
    """
    known = people.of(target.people)
    found = {
        (seen, how): predict_out_of_fold(
            how, target.kind, x, target.y, known.folds, known.families, options.seed
        )
        for seen, x in combinations(known).items()
        for how in PREDICTORS
    }
    usual = usual_of(target.kind, target.y, known.folds)
    return found | {
        (seen, CNN): Predicted(values, usual, known.folds) for seen, values in volumes.items()
    }


def errors(target: Target, predicted: Predicted) -> tuple[NDArray, NDArray]:
    """Error of each person, and that of who knows the other folds only: absolute, or 1 - score."""
    both = predicted.values, predicted.usual
    if target.kind == "regression":
        return tuple(np.abs(target.y - values) for values in both)
    return tuple(1 - values[np.arange(len(target.y)), target.y] for values in both)


def intervals(
    statistic: Callable[[NDArray[np.intp]], float], folds: NDArray, options: Downstream
) -> tuple[Estimate, Estimate]:
    """Interval with what other training people would change, and that of fixed predictors."""
    fixed = bootstrap_over_people(statistic, len(folds), options.bootstrap, options.seed)
    return over_folds(statistic, folds), fixed


def score_rows(
    target: Target,
    found: Found,
    permuted: Mapping[str, Permuted],
    widths: Mapping[str, int],
    options: Downstream,
) -> Iterator[Row]:
    """Each metric of each input and predictor with its interval over people.

    Of the linear predictor's main metric also what permutations say, p by Holm over the inputs.
    """
    corrected = dict(zip(permuted, holm([by.p for by in permuted.values()]), strict=True))
    for (name, how), predicted in found.items():
        for metric, measure in METRICS[target.kind].items():

            def value(
                index: NDArray, predicted: Predicted = predicted, measure: Measure = measure
            ) -> float:
                return measure(target.y[index], predicted.of(index))

            estimate, fixed = intervals(value, predicted.folds, options)
            linear = how == LINEAR and metric == MAIN[target.kind]
            by_chance = permuted.get(name) if linear else None
            yield {
                "target": target.name, "kind": target.kind, "input": name, "predictor": how,
                "metric": metric, "value": estimate.value, "low": estimate.low,
                "high": estimate.high, "fixed_low": fixed.low, "fixed_high": fixed.high,
                "chance": CHANCE.get(metric),
                "chance_low": by_chance and by_chance.low,
                "chance_high": by_chance and by_chance.high,
                "p_permutation": by_chance and by_chance.p,
                "p_holm": corrected[name] if by_chance else None,
                "n_people": len(target.y), "n_missing": target.n_missing,
                "n_features": widths.get(name) if how != CNN else None,
            }  # fmt: skip


def pairs(measured_of: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Inputs that are compared: with the T1 alone, with what was measured, with covariates."""
    yield T1, COVARIATES
    for image in dict.fromkeys([*measured_of.values(), *measured_of]):
        yield image, T1
        yield f"{T1}+{image}", T1  # does it tell what the T1 does not?
        if image in measured_of:
            yield image, measured_of[image]
        yield image, COVARIATES


def comparison_rows(
    target: Target,
    found: Found,
    wanted: Iterable[tuple[str, str]],
    options: Downstream,
) -> Iterator[Row]:
    """Differences between two inputs on the same people; p of their errors by signed ranks."""
    main = MAIN[target.kind]
    measure = METRICS[target.kind][main]
    for how in dict.fromkeys(how for _, how in found):
        rows = []
        for name, than in wanted:
            if (name, how) not in found or (than, how) not in found:
                continue
            a, b = found[name, how], found[than, how]

            def difference(index: NDArray, a: Predicted = a, b: Predicted = b) -> float:
                y = target.y[index]
                return measure(y, a.of(index)) - measure(y, b.of(index))

            estimate, fixed = intervals(difference, a.folds, options)
            apart = errors(target, a)[0] - errors(target, b)[0]
            p = stats.wilcoxon(apart).pvalue if np.any(apart) else float("nan")
            rows.append({
                "target": target.name, "input": name, "than": than, "predictor": how,
                "metric": main, "difference": estimate.value, "low": estimate.low,
                "high": estimate.high, "fixed_low": fixed.low, "fixed_high": fixed.high, "p": p,
                "n_people": len(target.y),
            })  # fmt: skip
        for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
            yield row | {"p_holm": corrected}


def effect_rows(target: Target, people: People) -> Iterator[Row]:
    """Slope of each region's mean on a number; Hedges' g between two classes."""
    if len(target.classes) > 2:
        return
    for image, table in people.of(target.people).images.items():
        for region in (column for column in table if not column.startswith(BIN)):
            y = table[region].to_numpy(float)
            if target.kind == "regression":
                kind, effect = "slope", slope(target.y, y)
            else:
                kind = f"g, {target.classes[1]} minus {target.classes[0]}"
                effect = hedges_g(y[target.y == 1], y[target.y == 0])
            yield {
                "target": target.name, "image": image, "region": region, "effect": kind,
                **asdict(effect),
            }  # fmt: skip


def transfer_rows(
    target: Target, people: People, measured_of: Mapping[str, str], options: Downstream
) -> Iterator[Row]:
    """Learnt from measured maps, applied to synthetic ones, and the other way round."""
    known = people.of(target.people)
    for synthetic, measured in measured_of.items():
        images = known.images
        shared = images[synthetic].columns.intersection(images[measured].columns)
        tables = {name: images[name][shared].to_numpy(float) for name in (synthetic, measured)}
        for learnt, applied in ((measured, synthetic), (synthetic, measured)):
            predicted = predict_out_of_fold(
                LINEAR, target.kind, tables[learnt], target.y, known.folds,
                known.families, options.seed, tables[applied],
            )  # fmt: skip
            for metric, measure in METRICS[target.kind].items():
                yield {
                    "target": target.name, "learnt_from": learnt, "applied_to": applied,
                    "metric": metric, "value": measure(target.y, predicted),
                    "n_people": len(target.y),
                }  # fmt: skip


def agreement_rows(target: Target, found: Found, measured_of: Mapping[str, str]) -> Iterator[Row]:
    """ICC of the gap, predicted minus true, that measured and synthetic maps give each person.

    ``icc_corrected`` is of gaps without their line on the true value: predictors shrink to the
    mean, so gaps agree by that line alone.
    """
    if target.kind == "classification":
        return
    for synthetic, measured in measured_of.items():
        both = [found[name, LINEAR].values - target.y for name in (measured, synthetic)]
        gaps = np.stack(both, axis=1)
        lines = np.polynomial.polynomial.polyfit(target.y, gaps, 1)  # (2, 2): term, image
        corrected = gaps - np.outer(target.y, lines[1]) - lines[0]
        yield {
            "target": target.name, "measured": measured, "synthetic": synthetic,
            "icc": intraclass_correlation(gaps),
            "icc_corrected": intraclass_correlation(corrected), "n_people": len(target.y),
        }  # fmt: skip


def embedding_rows(people: People) -> Iterator[Row]:
    """First two principal components of each image's standardised features."""
    for image, table in people.images.items():
        if image == NOISE_FREE:
            continue
        components = make_pipeline(StandardScaler(), PCA(2, random_state=0))
        places = components.fit_transform(table.to_numpy(float))
        shares = components[-1].explained_variance_ratio_
        for name, (first, second) in zip(people.names, places, strict=True):
            yield {
                "image": image, "participant_id": name, "pc1": first, "pc2": second,
                "share1": shares[0], "share2": shares[1],
            }  # fmt: skip


def prediction_rows(target: Target, found: Found) -> Iterator[Row]:
    """What was predicted of each person; of a class, the last one's score."""
    for (name, how), predicted in found.items():
        values = predicted.values if target.kind == "regression" else predicted.values[:, -1]
        own, usual = errors(target, predicted)
        for i, person in enumerate(target.people):
            yield {
                "target": target.name, "input": name, "predictor": how, "participant_id": person,
                "fold": predicted.folds[i], "true": target.y[i] if not target.classes
                else target.classes[target.y[i]],
                "predicted": values[i], "error": own[i], "usual_error": usual[i],
            }  # fmt: skip


def recovery_rows(effects: Iterable[Row], measured_of: Mapping[str, str]) -> Iterator[Row]:
    """How far the effects of one image on regions are those of another.

    Parameters
    ----------
    effects : iterable of dict
        From `effect_rows`.
    measured_of : mapping of str to str
        Measured image of each synthetic one.

    Yields
    ------
    dict
        ``n_within`` counts regions whose interval holds the reference's value, ``n_same_sign``
        those with an effect of the same sign; ``r`` is Pearson's over regions.
    """
    table = pd.DataFrame(list(effects))
    if table.empty:
        return
    wanted = list(measured_of.items())
    wanted += [(FA, NOISE_FREE)] + [(n, NOISE_FREE) for n, of in measured_of.items() if of == FA]
    for (target, effect), own in table.groupby(["target", "effect"], sort=False):
        by_image = {name: rows.set_index("region") for name, rows in own.groupby("image")}
        for image, of in wanted:
            if image not in by_image or of not in by_image:
                continue
            both = by_image[image].join(by_image[of]["value"].rename("reference"), how="inner")
            within = both["reference"].between(both["low"], both["high"])
            r = both["value"].corr(both["reference"]) if len(both) > 2 else float("nan")
            yield {
                "target": target, "effect": effect, "image": image, "reference": of,
                "n_regions": len(both), "n_within": int(within.sum()),
                "n_same_sign": int((both["value"] * both["reference"] > 0).sum()), "r": r,
                "mean": both["value"].mean(), "mean_reference": both["reference"].mean(),
            }  # fmt: skip


def calibration_rows(target: Target, found: Found) -> Iterator[Row]:
    """Mean of what was said and of what is so, in equal shares of people by what was said.

    Of classes, the probability of the last; where scores are no probabilities there is none.
    """
    for (seen, how), predicted in found.items():
        said, true = predicted.values, target.y
        if target.kind == "classification":
            if not are_probabilities(said):
                continue
            said, true = said[:, -1], target.y == len(target.classes) - 1
        for i, members in enumerate(np.array_split(np.argsort(said, kind="stable"),
                                                   CALIBRATION_BINS), 1):  # fmt: skip
            yield {
                "target": target.name, "input": seen, "predictor": how, "bin": i,
                "said": said[members].mean(), "true": true[members].mean(),
                "n_people": len(members),
            }  # fmt: skip
