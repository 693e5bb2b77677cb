"""The page of the biological validation: results and their interpretation.

Every number in it is read from a table of `m2m downstream`; nothing is computed here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.downstream.inputs import COVARIATES
from m2m.downstream.prediction import LINEAR, MAIN
from m2m.evaluate.statistics import ALPHA
from m2m.figures.figure_records import of_validation
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.models.given_weights import given_in, targets_of
from m2m.options import Report
from m2m.options.configured import figures_folder, measured_of, read_config
from m2m.options.downstream_options import ATLAS, NOISE_FREE, T1, with_measured
from m2m.options.stage_flags import NeededConfig, Root
from m2m.report.page import making, render
from m2m.report.page_figures import shown
from m2m.report.page_files import save_page
from m2m.report.summary_text import Row, interval, printed

METRICS = {
    "r2": ("R²", 3),
    "mae": ("mean absolute error", 3),
    "r": ("Pearson's r", 3),
    "auc": ("area under the ROC curve", 3),
    "balanced_accuracy": ("balanced accuracy", 3),
    "brier_skill": ("Brier skill", 3),
}


def linear_scores(scores: Sequence[Row], target: str) -> dict[str, Row]:
    """Rows of the main metric of the linear predictor, by input."""
    return {
        row["input"] or "": row
        for row in scores
        if row["target"] == target and row["predictor"] == LINEAR and row["metric"] == MAIN[row["kind"] or ""]
    }


def above_chance(row: Row) -> bool:
    """Whether an input predicts better than chance, by p corrected over all inputs and by the interval."""
    p, low = row["p_holm"], row["low"]
    above = low is not None and float(low) > float(row["chance"] or 0)
    return above if p is None else above and float(p) <= ALPHA


def score_text(row: Row) -> str:
    """Value, interval and p of a score."""
    name, digits = METRICS[row["metric"] or ""]
    p = f", permutation p = {printed(row['p_permutation'], 4)}" if row["p_permutation"] else ""
    p += f" ({printed(row['p_holm'], 4)} over all inputs)" if row["p_holm"] else ""
    return f"{name} {printed(row['value'], digits)} {interval(row, digits)}{p}"


def difference(comparison: Sequence[Row], target: str, name: str, reference: str) -> Row | None:
    """Row of a paired difference of the linear predictor.

    Parameters
    ----------
    comparison : rows of comparison.tsv
    target : str
        Phenotype.
    name, reference : str
        Input, and the input that it is compared with.

    Returns
    -------
    Row or None
        None where the pair was not compared.
    """
    for row in comparison:
        key = row["target"], row["input"], row["reference_input"], row["predictor"]
        if key == (target, name, reference, LINEAR):
            return row
    return None


def verdict(row: Row) -> str:
    """Describe a difference by its interval over the folds and by p corrected over the pairs of inputs."""
    if row["low"] is None or row["high"] is None:
        return "too few participants"
    if row["p_holm"] is None or float(row["p_holm"]) > ALPHA or float(row["low"]) <= 0 <= float(row["high"]):
        return "not significantly different"
    return "better" if float(row["low"]) > 0 else "worse"


def sentences(target: str, tables: Mapping[str, Sequence[Row]], measured_of: Mapping[str, str | None]) -> Iterator[str]:
    """Describe the results of one phenotype.

    Parameters
    ----------
    target : str
        Phenotype.
    tables : mapping of str to rows
        Tables of the biological validation, by name.
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.

    Yields
    ------
    str
    """
    scores = linear_scores(tables["scores"], target)
    known = [COVARIATES] if COVARIATES in scores else []
    for name in dict.fromkeys([T1, *filter(None, measured_of.values()), *measured_of, *known]):
        verb = "is predicted" if above_chance(scores[name]) else "is not predicted"
        yield f"{target} {verb} above chance from {name} alone: {score_text(scores[name])}."
    for name, measured in measured_of.items():
        yield from _synthetic_sentences(target, name, measured, tables, scores)
    if row := difference(tables["comparison"], target, T1, COVARIATES):
        metric = METRICS[row["metric"] or ""][0]
        yield (
            f"T1 minus brain volume and the other covariates alone: {metric} "
            f"{printed(row['difference'], 3)} {interval(row, 3)}, {verdict(row)}."
        )


def _synthetic_sentences(
    target: str,
    name: str,
    measured: str | None,
    tables: Mapping[str, Sequence[Row]],
    scores: Mapping[str, Row],
) -> Iterator[str]:
    """Sentences about one image that is made from the T1."""
    if row := difference(tables["comparison"], target, f"{T1}+{name}", T1):
        metric = METRICS[row["metric"] or ""][0]
        meaning = {
            "better": "the map adds information that the predictors did not extract from the T1's own features",
            "worse": "adding the map to the T1 makes predictions worse",
            "not significantly different": "no evidence that the map adds to the T1 from which it was made",
        }.get(verdict(row), verdict(row))
        yield (
            f"T1 with {name} minus T1 alone: {metric} {printed(row['difference'], 3)} {interval(row, 3)}: {meaning}."
        )
    references = {measured: f"measured {measured}", ATLAS: f"the {ATLAS}", COVARIATES: "covariates alone"}
    for reference, text in references.items():
        if reference and (row := difference(tables["comparison"], target, name, reference)):
            yield (
                f"{name} minus {text}: {METRICS[row['metric'] or ''][0]} "
                f"{printed(row['difference'], 3)} {interval(row, 3)}, {verdict(row)}."
            )
    if measured is None:
        return
    if above_chance(scores[name]) and not above_chance(scores[measured]):
        yield (
            f"{target} is predicted above chance from {name} but not from {measured}: the synthetic map contains "
            f"information of its T1, which is no evidence about {measured}."
        )
    for row in tables["recovery"]:
        if (row["target"], row["image"], row["reference"]) == (target, name, measured):
            yield (
                f"Effects on {row['n_regions']} regions: the value of {measured} lies in the "
                f"interval of {name} in {row['n_within']} regions, the sign is the same in "
                f"{row['n_same_sign']}, r over regions {printed(row['r'], 2)}; mean effect "
                f"{printed(row['mean'], 5)} ({measured}: {printed(row['mean_reference'], 5)})."
            )


def cells(rows: Sequence[Row], columns: Mapping[str, int | None]) -> list[list[str]]:
    """Rows as texts, numbers with the given number of digits (None: printed unchanged)."""
    return [
        [
            str(row[column] if row[column] is not None else "n/a") if digits is None else printed(row[column], digits)
            for column, digits in columns.items()
        ]
        for row in rows
    ]


# Tables of the page: title, note, and digits of each column (None: printed unchanged).
TABLES: dict[str, tuple[str, str, dict[str, int | None]]] = {
    "scores": (
        "Predictions",
        "Cross-validated; penalties are chosen by nested cross-validation. "
        "low, high: 95 % interval from the values of the folds; fixed_low, fixed_high: bootstrap over "
        "participants with fixed predictors, which gives too narrow intervals. "
        "p: from permutations of the phenotype, for ridge regression on the same folds; "
        "chance_low, chance_high: the central 95 % of the permutations; "
        "Holm's correction over the inputs of a phenotype.",
        {
            "target": None,
            "input": None,
            "predictor": None,
            "metric": None,
            "value": 3,
            "low": 3,
            "high": 3,
            "fixed_low": 3,
            "fixed_high": 3,
            "chance": 1,
            "chance_low": 3,
            "chance_high": 3,
            "p_permutation": 4,
            "p_holm": 4,
            "n_subjects": None,
            "n_missing": None,
            "n_features": None,
        },
    ),
    "comparison": (
        "Paired differences",
        "On the same participants and folds; p by signed-rank tests of "
        "their errors, Holm's correction over the pairs of a phenotype and predictor. "
        "Better or worse needs an interval without 0 and a corrected p of at most .05.",
        {
            "target": None,
            "input": None,
            "reference_input": None,
            "predictor": None,
            "metric": None,
            "difference": 3,
            "low": 3,
            "high": 3,
            "p": 4,
            "p_holm": 4,
            "n_subjects": None,
        },
    ),
    "sites": (
        "Predictions by site",
        "Of the linear predictor, among the participants of each site; harmonise: how features were harmonised over "
        "sites. Intervals as in the table of predictions, where enough folds have participants of the site.",
        {
            "target": None,
            "input": None,
            "harmonise": None,
            "site": None,
            "metric": None,
            "value": 3,
            "low": 3,
            "high": 3,
            "fixed_low": 3,
            "fixed_high": 3,
            "n_subjects": None,
        },
    ),
    "recovery": (
        "Recovery of regional effects",
        f"Reference {NOISE_FREE}: noise-free maps of simulated participants.",
        {
            "target": None,
            "effect": None,
            "image": None,
            "reference": None,
            "n_regions": None,
            "n_within": None,
            "n_same_sign": None,
            "r": 3,
            "mean": 5,
            "mean_reference": 5,
        },
    ),
    "transfer": (
        "Transfer",
        "The linear predictor trained on one image and applied to the other, with the same folds.",
        {"target": None, "trained_on": None, "applied_to": None, "metric": None, "value": 3, "n_subjects": None},
    ),
    "agreement": (
        "Agreement of gaps",
        "ICC(A,1) of the gaps (predicted minus actual value); "
        "corrected: after regression of the gaps on the actual value.",
        {"target": None, "measured": None, "synthetic": None, "icc": 3, "icc_corrected": 3, "n_subjects": None},
    ),
}


def arranged(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Tables of the page that have rows: name, title, note, columns and rows."""
    return [
        {"name": name, "title": title, "note": note, "columns": list(columns), "rows": cells(tables[name], columns)}
        for name, (title, note, columns) in TABLES.items()
        if tables[name]
    ]


def main(root: Root, config: NeededConfig) -> None:
    """Write the page of the biological validation, self-contained."""
    settings = read_config(config)
    write_page(
        root / "downstream",
        Path(figures_folder(root, "downstream")),
        measured_of(settings.section("downstream"), settings.task, targets_of(given_in(settings))),
        settings.simulated,
        config.read_text(encoding="utf-8"),
        root / "downstream.html",
        settings.section("report"),
    )


def write_page(
    folder: Path,
    figures_dir: Path,
    measured_of: Mapping[str, str | None],
    simulated: bool,
    config_json: str,
    out: Path,
    section: Report,
) -> None:
    """Write the page of the biological validation from the tables in a folder.

    Parameters
    ----------
    folder : Path
        Tables and downstream.json.
    figures_dir : Path
        Folder of all figures of the validation.
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    simulated : bool
        Whether participants are simulated.
    config_json : str
        Configuration that was run.
    out : Path
        HTML file.
    section : Report
    """
    record = read_json(folder / "downstream.json")
    chosen = record["options"]
    tables = {name: read_table(folder / f"{name}.tsv") for name in TABLES}
    page = render(
        "downstream.html.j2",
        {
            "title": section.title,
            "simulated": simulated,
            "record": record,
            "chosen": chosen,
            "measured_of": measured_of,
            "compared": with_measured(measured_of),
            "given": record.get("given", {}),
            "atlas": ATLAS in measured_of,
            "harmonised": record.get("harmonised"),
            "cnn": any(row["predictor"] == "cnn" for row in tables["scores"]),
            "targets": {
                name: list(sentences(name, tables, measured_of))
                for name in chosen["targets"]
                if name not in record["refused"]
            },
            "tables": arranged(tables),
            "figures": shown(of_validation(measured_of, "harmonised" in record), figures_dir, "downstream/"),
            **making(config_json, record["folds_hash"], "downstream"),
        },
    )
    save_page(out, page, section.max_page_mb)
