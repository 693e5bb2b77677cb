"""A stand-in for `m2m`: it does no work, and writes an empty file for each output it is given.

A folder whose `m2m` runs this goes first on PATH. An output is an argument that reads like a file
and is not there: Snakemake deletes a job's outputs before it, and its inputs exist. Stages that are
given a dataset find their files by themselves: here a table says which they write. The stages of
the cohort that the workflow reads the tables of are the real ones.
"""

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from m2m.io import bids
from m2m.io.modalities import MODALITIES

REAL = ("describe", "index", "validate", "split")
DTI = ("fa", "md", "ad", "rd", "v1", "tensor", "mask")
# Kinds of the files of a person.
OF_PERSON = {
    "anat": ("t1w", "brain", "wm", "anat-status"),
    "dti": (*(f"dwi-{name}" for name in DTI), "b0", "dti-status"),
    "tractography": ("tractogram", "tractography-picture", "tractography-status"),
    "synthesise": ("synth", "synthsd", "synth-status"),
    "grid": ("target-mask", "picture", "grid-status"),  # and each map that is named
}
# Names of the files of a task and model, or of a task.
OF_MODEL = {
    "train": (
        "models/{task}/{model}",
        ("model.safetensors", "model.json", "model_card.md", "metrics.jsonl"),
    ),
    "evaluate": (
        "evaluate/{task}/{model}",
        [f"{name}.tsv" for name in ("profile", "rois", "bundles", "spectrum", "uncertainty")]
        + ["metrics.tsv"],
    ),
    "compare": ("evaluate/{task}", ("summary.tsv", "comparison.tsv")),
    "tables": (
        "evaluate/{task}",
        [f"{name}.{end}" for name in ("summary", "comparison") for end in ("md", "tex")],
    ),
}


def install(folder: Path) -> Path:
    """Write `m2m` into a folder, for the head of PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "m2m"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    return folder


def maps_of(arguments: Sequence[str]) -> list[str]:
    """Kinds of the maps on the common grid that the flags `--maps` name."""
    named = [MODALITIES[name] for flag, name in pairwise(arguments) if flag == "--maps"]
    streamlines = ["count"] if "density" in {one.nature for one in named} else []
    return [one.kind for one in named] + streamlines


def written(command: str, arguments: Sequence[str]) -> list[str]:
    """Files that a stage writes below the dataset that it is given."""
    flags = dict(pairwise(arguments))
    root = flags["--root"]
    if command in OF_MODEL:
        folder, names = OF_MODEL[command]
        where = {"task": flags["--task"], "model": flags.get("--model")}
        return [f"{root}/{folder.format(**where)}/{name}" for name in names]
    if command not in (*OF_PERSON, "slices"):
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
    kinds = [*OF_PERSON[command], *(maps_of(arguments) if command == "grid" else ())]
    files = (bids.files_of(unit, root)(kind) for kind in kinds)
    return [str(path).format(measure=measure) for path in files]


def touch(arguments: list[str]) -> None:
    """Write empty files where arguments name files that are not there."""
    for argument in arguments:
        path = Path(argument)
        if "/" in argument and argument[0] not in "{[" and path.suffix and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def main() -> None:
    """Do what a stage would, or nearly nothing."""
    if sys.argv[1] in REAL:
        from m2m.cli import app

        app()
    command, *arguments = sys.argv[1:]
    touch(arguments)
    if "--root" in arguments:
        touch(written(command, arguments))


if __name__ == "__main__":
    main()
