"""The models that results hold: what each was trained on, and how good it is."""

from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.status import find_results, format_table
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.tables import read_table

# Of the test people, inside the brain; the others are in evaluate/<task>/summary.tsv.
METRICS = ("ssim", "psnr", "pearson")
COLUMNS = ("task", "model", "from", "to", "grid", "trained on", "validation", *METRICS, "file")
INTERVAL = ("mean", "low", "high")
NONE = "-"


def measured(root: Path, task: str) -> dict[tuple[str, str], str]:
    """Read mean and interval of each model's `METRICS` in the brain, as text; by model, metric."""
    path = root / "evaluate" / task / "summary.tsv"
    rows = read_table(path) if path.exists() else []
    return {
        (row["model"], row["metric"]): "{mean} ({low} to {high})".format(
            **{key: NONE if row[key] is None else f"{float(row[key]):.3g}" for key in INTERVAL}
        )
        for row in rows
        if row["region"] == "brain" and row["metric"] in METRICS
    }


def describe_models(root: Path) -> list[dict[str, str]]:
    """Describe every trained model below a dataset's results, as rows of `COLUMNS`."""
    rows = []
    for path in sorted(root.glob("models/*/*/model.json")):
        record = read_json(path)
        tested = measured(root, record["task"])
        people = f"{record['n_train']} people" + ", simulated" * record["simulated"]
        validation = record["validation"]
        rows.append(
            {
                "task": record["task"], "model": record["model"], "from": record["source"],
                "to": record["target"], "grid": f"{record['spacing_mm']:g} mm",
                "trained on": people,
                "validation": f"{validation['value']:.4f}" if validation else NONE,
                **{name: tested.get((record["model"], name), NONE) for name in METRICS},
                "file": str(path.with_name("model.safetensors").relative_to(root)),
            }
        )  # fmt: skip
    return rows


def main(
    results: Annotated[
        Path | None, typer.Option(help="Results of one dataset; default: the only one there is.")
    ] = None,
) -> None:
    """Print the trained models: from what to what, on whom, how good.

    validation: mean absolute error in scaled units on the validation people; lower is better. The
    other columns: mean over the test people inside the brain, with its 95 % interval.
    """
    root = find_results(Path("results")) if results is None else results
    rows = describe_models(root)
    if not rows:
        raise DataError(
            "no model is trained here", file=root / "models", remedy="run `snakemake train`"
        )
    print(f"{root}\n\n{format_table(rows, COLUMNS)}")
