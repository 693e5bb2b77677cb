"""A stand-in for `m2m`: it computes nothing and writes an empty file for each output in its arguments.

A folder with an `m2m` that runs this comes first on PATH. An output is an argument that looks like a
file name and does not exist: Snakemake deletes a job's outputs before it starts, or keeps those that are there for
the stage, and its inputs exist.
For stages that get a dataset and derive their files, a table here lists the files they write. Stages
of the cohort whose tables the workflow reads are the real ones.
"""

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from m2m.cli import calls_in
from m2m.io import bids
from m2m.io.modalities import MODALITIES

REAL = ("describe", "index", "validate", "split")
DTI = ("fa", "md", "ad", "rd", "v1", "tensor", "mask")
# Kinds of files that each stage writes for a participant.
OF_PARTICIPANT = {
    "anat": ("t1w", "brain", "wm", "anat-status"),
    "dti": (*(f"dwi-{name}" for name in DTI), "b0", "dti-status"),
    "tractography": ("tractogram", "tractography-figure", "tractography-status"),
    "synthesise": ("synth", "synthsd", "synth-status"),
    "grid": ("target-mask", "qc", "grid-status"),  # and each map in the arguments
}
# Names of files that each stage writes for a task and model, or for a task.
OF_MODEL = {
    "train": (
        "models/{task}/{model}",
        ("model.safetensors", "model.json", "model_card.md", "metrics.jsonl"),
    ),
    "evaluate": (
        "evaluate/{task}/{model}",
        [f"{name}.tsv" for name in ("profile", "rois", "bundles", "spectrum", "uncertainty")] + ["metrics.tsv"],
    ),
    "compare": ("evaluate/{task}", ("summary.tsv", "comparison.tsv")),
    "tables": (
        "evaluate/{task}",
        [f"{name}.{end}" for name in ("summary", "comparison") for end in ("md", "tex")],
    ),
}


def install(folder: Path) -> Path:
    """Write an `m2m` into a folder that is to come first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "m2m"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    return folder


def maps_of(arguments: Sequence[str]) -> list[str]:
    """List the kinds of the maps on the common grid, from the flags `--maps`."""
    named = [MODALITIES[name] for flag, name in pairwise(arguments) if flag == "--maps"]
    streamlines = ["count"] if "density" in {one.nature for one in named} else []
    return [one.kind for one in named] + streamlines


def written(command: str, arguments: Sequence[str]) -> list[str]:
    """List the files that a stage writes below its dataset."""
    flags = dict(pairwise(arguments))
    root = flags["--root"]
    if command in OF_MODEL:
        folder, names = OF_MODEL[command]
        where = {"task": flags["--task"], "model": flags.get("--model")}
        return [f"{root}/{folder.format(**where)}/{name}" for name in names]
    if command not in (*OF_PARTICIPANT, "slices"):
        return []
    unit, measure = bids.unit_of(flags["--subject"], flags.get("--session")), ""
    if command == "slices":
        names = ("axial.npy", "coronal.npy", "sagittal.npy", "slices.json")
        return [bids.slices_path(root, name, bids.unit_folder(unit), unit) for name in names]
    if command == "synthesise":
        config = json.loads(Path(flags["--config"]).read_text(encoding="utf-8"))
        target = config["tasks"][flags["--task"]]["target"]
        measure = bids.measure(MODALITIES[target].kind)
        root = f"{root}/synthetic/{flags['--task']}/{flags['--model']}"
    kinds = [*OF_PARTICIPANT[command], *(maps_of(arguments) if command == "grid" else ())]
    files = (bids.files_of(unit, root)(kind) for kind in kinds)
    return [str(path).format(measure=measure) for path in files]


def touch(arguments: list[str]) -> None:
    """Write an empty file for each argument that names a file which does not exist."""
    for argument in arguments:
        path = Path(argument)
        if "/" in argument and argument[0] not in "{[" and path.suffix and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def main() -> None:
    """Run a real stage of the cohort, or write the empty outputs of another."""
    if sys.argv[1] in REAL:
        from m2m.cli import app

        app()
    for command, *arguments in calls_in(sys.argv[1:]):
        touch(arguments)
        if "--root" in arguments:
            touch(written(command, arguments))


if __name__ == "__main__":
    main()
