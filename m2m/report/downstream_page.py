"""The page of the biological validation: what each number supports, and what it does not.

Every number in it is read from a table of `m2m downstream`; nothing is computed here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.downstream.inputs import COVARIATES
from m2m.downstream.prediction import LINEAR, MAIN
from m2m.figures.figure_records import of_scope
from m2m.io.files import read_json, write_text
from m2m.io.tables import read_table
from m2m.options import Report
from m2m.options.configured import figures_folder, measured_of, read_config
from m2m.options.downstream_options import NOISE_FREE, T1
from m2m.options.stage_flags import NeededConfig, Root
from m2m.report.page import making, render
from m2m.report.pictures import shown
from m2m.report.words import Row, interval, printed

ALPHA = 0.05
TABLES = ("scores", "comparison", "recovery", "transfer", "agreement")
METRICS = {
    "r2": ("R²", 3), "mae": ("mean absolute error", 3), "r": ("Pearson's r", 3),
    "auc": ("area under the ROC curve", 3), "balanced_accuracy": ("balanced accuracy", 3),
    "brier_skill": ("Brier skill", 3),
}  # fmt: skip


def linear_scores(scores: Sequence[Row], target: str) -> dict[str, Row]:
    """Rows of the main metric of the linear predictor, by input."""
    return {
        row["input"] or "": row
        for row in scores
        if row["target"] == target and row["predictor"] == LINEAR
        and row["metric"] == MAIN[row["kind"] or ""]
    }  # fmt: skip


def found(row: Row) -> bool:
    """Whether an input predicts better than chance: p over all inputs, and the interval."""
    p, low = row["p_holm"], row["low"]
    above = low is not None and float(low) > float(row["chance"] or 0)
    return above if p is None else above and float(p) <= ALPHA


def said(row: Row) -> str:
    """Value, interval and p of a score."""
    name, digits = METRICS[row["metric"] or ""]
    p = f", permutation p = {printed(row['p_permutation'], 4)}" if row["p_permutation"] else ""
    p += f" ({printed(row['p_holm'], 4)} over all inputs)" if row["p_holm"] else ""
    return f"{name} {printed(row['value'], digits)} {interval(row, digits)}{p}"


def difference(comparison: Sequence[Row], target: str, name: str, than: str) -> Row | None:
    """Row of a paired difference of the linear predictor."""
    for row in comparison:
        key = row["target"], row["input"], row["than"], row["predictor"]
        if key == (target, name, than, LINEAR):
            return row
    return None


def verdict(row: Row) -> str:
    """Say what the interval of a difference says."""
    if row["low"] is None or row["high"] is None:
        return "too few people"
    if float(row["low"]) > 0:
        return "better"
    return "worse" if float(row["high"]) < 0 else "not told apart"


def sentences(
    target: str, tables: Mapping[str, Sequence[Row]], measured_of: Mapping[str, str]
) -> Iterator[str]:
    """Say in words what the numbers of one phenotype support, and what not."""
    scores = linear_scores(tables["scores"], target)
    for name in dict.fromkeys([T1, *measured_of.values(), *measured_of]):
        verb = "is found" if found(scores[name]) else "is not found"
        yield f"{target} {verb} in {name} alone: {said(scores[name])}."
    for name, measured in measured_of.items():
        yield from _about_synthetic(target, name, measured, tables, scores)
    if row := difference(tables["comparison"], target, T1, COVARIATES):
        word = METRICS[row["metric"] or ""][0]
        yield (
            f"T1 against brain volume and the other covariates alone: {word} "
            f"{printed(row['difference'], 3)} {interval(row, 3)}, {verdict(row)}."
        )


def _about_synthetic(
    target: str,
    name: str,
    measured: str,
    tables: Mapping[str, Sequence[Row]],
    scores: Mapping[str, Row],
) -> Iterator[str]:
    """Sentences about one synthetic image."""
    if row := difference(tables["comparison"], target, f"{T1}+{name}", T1):
        word = METRICS[row["metric"] or ""][0]
        more = {
            "better": "it puts to use what the T1's own features did not",
            "worse": "beside the T1 it does harm",
            "not told apart": "nothing shows that it tells more than the T1 it was made from",
        }.get(verdict(row), verdict(row))
        yield (
            f"{name} beside T1, minus T1 alone: {word} {printed(row['difference'], 3)} "
            f"{interval(row, 3)}: {more}."
        )
    if row := difference(tables["comparison"], target, name, measured):
        yield (
            f"{name} minus measured {measured}: {METRICS[row['metric'] or ''][0]} "
            f"{printed(row['difference'], 3)} {interval(row, 3)}, {verdict(row)}."
        )
    if found(scores[name]) and not found(scores[measured]):
        yield (
            f"{target} is found in {name} and not in {measured}: the synthetic map carries what "
            f"its T1 shows, which is no evidence about {measured}."
        )
    for row in tables["recovery"]:
        if (row["target"], row["image"], row["reference"]) == (target, name, measured):
            yield (
                f"Effects on {row['n_regions']} regions: the value of {measured} lies in the "
                f"interval of {name} in {row['n_within']}, the sign is the same in "
                f"{row['n_same_sign']}, r over regions {printed(row['r'], 2)}; mean effect "
                f"{printed(row['mean'], 5)} against {printed(row['mean_reference'], 5)}."
            )


def cells(rows: Sequence[Row], columns: Mapping[str, int | None]) -> list[list[str]]:
    """Rows as texts, numbers to so many digits."""
    return [
        [
            str(row[column] if row[column] is not None else "n/a") if digits is None
            else printed(row[column], digits)
            for column, digits in columns.items()
        ]
        for row in rows
    ]  # fmt: skip


def arranged(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """The tables of the page: title, note, heads and cells."""
    shown = {
        "scores": ("Predictions", "Cross-validated; penalties are chosen inside the other folds. "
                   "low, high: 95 % interval from the folds' own values; fixed: bootstrap over "
                   "people with the predictors as they are, which is too short. "
                   "p: permutations of the phenotype, of ridge regression on the same folds; "
                   "chance: the middle 95 % of them; Holm over the inputs of a phenotype.",
                   {"target": None, "input": None, "predictor": None, "metric": None, "value": 3,
                    "low": 3, "high": 3, "fixed_low": 3, "fixed_high": 3, "chance": 1,
                     "chance_low": 3, "chance_high": 3,
                    "p_permutation": 4, "p_holm": 4, "n_people": None,
                    "n_missing": None, "n_features": None}),
        "comparison": ("Paired differences", "On the same people and folds; p by signed ranks of "
                       "their errors, Holm over the pairs of a phenotype and predictor.",
                       {"target": None, "input": None, "than": None, "predictor": None,
                        "metric": None, "difference": 3, "low": 3, "high": 3, "p": 4, "p_holm": 4,
                        "n_people": None}),
        "recovery": ("Effects on regions: found again", f"Reference {NOISE_FREE}: the maps of "
                     "simulated people without noise.",
                     {"target": None, "effect": None, "image": None, "reference": None,
                      "n_regions": None, "n_within": None, "n_same_sign": None, "r": 3,
                      "mean": 5, "mean_reference": 5}),
        "transfer": ("Transfer", "Learnt from one image, applied to the other, linear predictor, "
                     "the same folds.",
                     {"target": None, "learnt_from": None, "applied_to": None, "metric": None,
                      "value": 3, "n_people": None}),
        "agreement": ("Agreement of gaps", "ICC(A,1) of predicted minus true; corrected: of what "
                      "is left of the gaps after their line on the true value.",
                      {"target": None, "measured": None, "synthetic": None, "icc": 3,
                       "icc_corrected": 3, "n_people": None}),
    }  # fmt: skip
    return [
        {"name": name, "title": title, "note": note, "columns": list(columns),
         "rows": cells(tables[name], columns)}
        for name, (title, note, columns) in shown.items()
    ]  # fmt: skip


def main(root: Root, config: NeededConfig) -> None:
    """Write the page of the biological validation, self-contained."""
    written = read_config(config)
    write_page(
        root / "downstream", Path(figures_folder(root, "downstream")),
        measured_of(written.section("downstream"), written.task), written.simulated,
        config.read_text(encoding="utf-8"), root / "downstream.html", written.section("report"),
    )  # fmt: skip


def write_page(
    folder: Path,
    figures_dir: Path,
    measured_of: Mapping[str, str],
    simulated: bool,
    config_json: str,
    out: Path,
    section: Report,
) -> None:
    """Write the page of what the tables in a folder say."""
    record = read_json(folder / "downstream.json")
    chosen = record["options"]
    tables = {name: read_table(folder / f"{name}.tsv") for name in TABLES}
    page = render(
        "downstream.html.j2",
        {
            "title": section.title, "simulated": simulated,
            "record": record, "chosen": chosen, "measured_of": measured_of,
            "cnn": any(row["predictor"] == "cnn" for row in tables["scores"]),
            "targets": {
                name: list(sentences(name, tables, measured_of))
                for name in chosen["targets"] if name not in record["refused"]
            },
            "tables": arranged(tables),
            "figures": shown(of_scope("downstream"), figures_dir, "downstream/"),
            **making(config_json, record["folds_hash"], "downstream"),
        },
    )  # fmt: skip
    write_text(out, page)
    print(f"wrote {out} ({len(page.encode()) / 1e6:.1f} MB)")
