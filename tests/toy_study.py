"""Train and evaluate one model and the mean map, up to the sentences of the report page.

toy_study.py <family> <folder>: prints the results as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import report_tree as tree
from small_cohort import write_subject
from typer.testing import CliRunner

import m2m
from m2m.cli import app
from m2m.io.bids import unit_path
from m2m.io.tables import read_table
from m2m.options import Config, Task
from m2m.report.model_sentences import model_sentences, training_sentences
from m2m.report.page import model_rows
from m2m.structural.slices import normalise

TASK, MODEL = "t1-fa", "toy"
PARTS = {f"sub-{i:02d}": part for i, part in enumerate(["train"] * 2 + ["validation"] + ["test"] * 3)}
TRAINING = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 3}


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def write_slices(root, unit):
    """Cut the grid's images of one participant, as `m2m slices` does."""
    kinds = ("t1w", "fa", "brain", "target-mask")
    t1, fa, brain, mask = (tree.load(unit_path(root, kind, unit, unit)) for kind in kinds)
    t1 = normalise(t1.astype(np.float32), brain > 0, [1, 99])[0]
    (root / "slices").mkdir(exist_ok=True)
    write_subject(root / "slices", unit, np.stack([t1, fa, brain, mask]), affine=tree.AFFINE.tolist())


def train(root, family):
    folder = root / "models" / TASK / MODEL
    options = {"family": family, "training": TRAINING}
    run(
        "train",
        "--root",
        root,
        "--task",
        TASK,
        "--model",
        MODEL,
        "--options",
        json.dumps(options),
        "--task-options",
        json.dumps({"source": "t1", "target": "fa"}),
    )
    return folder / "model.safetensors"


def translate(root, weights, unit):
    predicted = root / "synthetic" / TASK / MODEL
    run(
        "translate",
        unit_path(root, "t1w", unit, unit),
        "--weights",
        weights,
        "--unit",
        unit,
        "--brain",
        unit_path(root, "brain", unit, unit),
        "--anat-status",
        unit_path(root, "anat-status", unit, unit),
        "--out",
        unit_path(predicted, "synth-fa", unit, unit),
        "--out-sd",
        unit_path(predicted, "synthsd-fa", unit, unit),
        "--status",
        root / f"{unit}.json",
    )


def main(family, root):
    tree.build(root, PARTS)
    for unit, part in PARTS.items():
        if part != "test":
            write_slices(root, unit)
    weights = train(root, family)
    for unit, part in PARTS.items():
        if part == "test":
            translate(root, weights, unit)
    tree.run_evaluation(root, (MODEL, "mean"))
    config = Config.model_validate(
        {
            "dataset": "toy",
            "models": {MODEL: {"family": family, "training": TRAINING}, "mean": {"family": "mean"}},
            "tasks": {TASK: {"models": [MODEL, "mean"]}},
        }
    )
    task = Task(models=(MODEL, "mean"))
    summary = read_table(root / "evaluate" / TASK / "summary.tsv")
    return {
        "package": str(Path(m2m.__file__).parent),
        "sentences": [
            *model_sentences(config.models),
            *training_sentences(config.tasks, config.models),
        ],
        "rows": model_rows(root, TASK, task),
        "mae": {row["model"]: row["mean"] for row in summary if (row["region"], row["metric"]) == ("brain", "mae")},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
