"""List the trained models of a results folder: training data and accuracy of each."""

from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.status import find_results, format_table
from m2m.io.errors import DataError
from m2m.io.tables import read_table
from m2m.models.record_schema import read_record

# Over test participants, inside the brain; evaluate/<task>/summary.tsv has all metrics.
METRICS = ("ssim", "psnr", "pearson")
COLUMNS = ("task", "model", "from", "to", "grid", "trained on", "validation", *METRICS, "file")
INTERVAL = ("mean", "low", "high")
NONE = "-"


def read_metrics(root: Path, task: str) -> dict[tuple[str, str], str]:
    """Read mean and interval of `METRICS` in the brain, as text, for each (model, metric)."""
    path = root / "evaluate" / task / "summary.tsv"
    rows = read_table(path) if path.exists() else []
    return {
        (str(row["model"]), str(row["metric"])): "{mean} ({low} to {high})".format(
            **{key: NONE if (value := row[key]) is None else f"{float(value):.3g}" for key in INTERVAL}
        )
        for row in rows
        if row["region"] == "brain" and row["metric"] in METRICS
    }


def describe_models(root: Path) -> list[dict[str, str]]:
    """Describe every trained model in the results of a dataset, as rows of `COLUMNS`."""
    rows = []
    for path in sorted(root.glob("models/*/*/model.json")):
        try:
            record = read_record(path)
        except DataError as error:  # one bad record does not hide the other models
            typer.echo(f"not listed: {error}", err=True)
            continue
        metrics = read_metrics(root, record["task"])
        subjects = f"{record['n_train']} participants" + ", simulated" * record["simulated"]
        subjects += ", fine-tuned" * ("started_from" in record)
        validation = record["validation"]
        rows.append(
            {
                "task": record["task"],
                "model": record["model"],
                "from": record["source"],
                "to": record["target"],
                "grid": f"{record['spacing_mm']:g} mm",
                "trained on": subjects,
                "validation": f"{validation['value']:.4f}" if validation else NONE,
                **{name: metrics.get((record["model"], name), NONE) for name in METRICS},
                "file": str(path.with_name("model.safetensors").relative_to(root)),
            }
        )
    return rows


def main(
    results: Annotated[
        Path | None, typer.Option(help="Results of one dataset; default: the only one there is.")
    ] = None,
) -> None:
    """Print the trained models: from what to what, on whom, how good.

    validation: mean absolute error in scaled units on the validation participants; lower is better. The
    other columns: mean over the test participants inside the brain, with its 95 % interval.
    """
    root = find_results(Path("results")) if results is None else results
    rows = describe_models(root)
    if not rows:
        raise DataError("no model is trained here", file=root / "models", remedy="run `snakemake train`")
    print(f"{root}\n\n{format_table(rows, COLUMNS)}")
