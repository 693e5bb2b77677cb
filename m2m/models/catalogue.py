"""List the trained models of a results folder, and those installed with m2m: training data and accuracy of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cohort.status import find_results, format_table
from m2m.io.errors import DataError
from m2m.io.tables import read_table
from m2m.models import pretrained
from m2m.models.record_schema import read_record

# Over test participants, inside the brain; evaluate/<task>/summary.tsv has all metrics.
METRICS = ("ssim", "psnr", "pearson")
COLUMNS = ("task", "model", "from", "to", "grid", "trained on", "validation", *METRICS, "licence", "file", "note")
INTERVAL = ("mean", "low", "high")
NONE = "-"


def read_metrics(path: Path) -> dict[tuple[str, str], str]:
    """Read mean and interval of `METRICS` in the brain, as text, for each (model, metric) of a summary.tsv."""
    rows = read_table(path) if path.exists() else []
    return {
        (str(row["model"]), str(row["metric"])): "{mean} ({low} to {high})".format(
            **{key: NONE if (value := row[key]) is None else f"{float(value):.3g}" for key in INTERVAL}
        )
        for row in rows
        if row["region"] == "brain" and row["metric"] in METRICS
    }


def _described(record: Mapping[str, Any], metrics: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Row of a model, without its file."""
    validation = record["validation"]
    subjects = f"{record['n_train']} participants" + ", simulated" * record["simulated"]
    return {
        "task": record["task"],
        "model": record["model"],
        "from": record["source"],
        "to": record["target"],
        "grid": f"{record['spacing_mm']:g} mm",
        "trained on": subjects + ", fine-tuned" * ("started_from" in record),
        "validation": f"{validation['value']:.4f}" if validation else NONE,
        **{name: metrics.get((record["model"], name), NONE) for name in METRICS},
        "licence": record.get("licence") or NONE,
        "note": record.get("trained_on") or NONE,
    }


def _described_files(root: Path, pattern: str, summary: str) -> list[dict[str, str]]:
    """Rows of the models below a folder; `summary` is the path of their tests, by task and folder of the model."""
    rows = []
    for path in sorted(root.glob(pattern)):
        try:
            record = read_record(path)
        except DataError as error:  # one bad record does not hide the other models
            typer.echo(f"not listed: {error}", err=True)
            continue
        metrics = read_metrics(root / summary.format(task=record["task"], name=path.parent.name))
        file = str(path.with_name("model.safetensors").relative_to(root))
        rows.append(_described(record, metrics) | {"file": file})
    return rows


def describe_models(root: Path) -> list[dict[str, str]]:
    """Describe every trained model in the results of a dataset, as rows of `COLUMNS`."""
    return _described_files(root, "models/*/*/model.json", "evaluate/{task}/summary.tsv")


def describe_installed() -> list[dict[str, str]]:
    """Describe the models installed with m2m, as rows of `COLUMNS`."""
    return _described_files(pretrained.FOLDER, "*/model.json", "{name}/summary.tsv")


def main(
    results: Annotated[
        Path | None, typer.Option(help="Results of one dataset; default: the only one there is.")
    ] = None,
) -> None:
    """Print the trained models, first those installed with m2m: from what to what, on whom, how good.

    validation: mean absolute error in scaled units on the validation participants; lower is better. The
    three metrics: mean over the test participants inside the brain, with its 95 % interval. `m2m translate`
    takes installed weights by the name of their folder.
    """
    if installed := describe_installed():
        print(f"installed, in {pretrained.FOLDER}\n\n{format_table(installed, COLUMNS)}\n")
    try:
        root = find_results(Path("results")) if results is None else results
        rows = describe_models(root)
        if not rows:
            raise DataError("no model is trained here", file=root / "models", remedy="run `snakemake train`")
    except DataError as error:
        if results is not None or not installed:
            raise
        typer.echo(f"no others: {error}", err=True)
        return
    print(f"{root}\n\n{format_table(rows, COLUMNS)}")
