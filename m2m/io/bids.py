"""Names of files: one function builds every path of the workflow, in BIDS words.

References
----------
Gorgolewski et al. (2016), Sci Data 3:160044, https://doi.org/10.1038/sdata.2016.44;
BIDS extension proposal 16 for the names of diffusion maps.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

ENTITIES = ("sub", "ses", "run", "space", "res", "label", "desc", "model", "param")
_LABEL = re.compile(r"[A-Za-z0-9]+\Z")
_SUBJECT, _SESSION = (re.compile(rf"{name}-[A-Za-z0-9]+\Z") for name in ("sub", "ses"))


def unit_name(participant: str, session: str | None = None) -> str:
    """Name the unit of analysis, one participant in one session: ``sub-01[_ses-1]``."""
    return bids_name(sub=participant.removeprefix("sub-"), ses=session)


def unit_of(subject: str, session: str | None = None) -> str:
    """Name the unit that a stage's ``--subject sub-01 [--session ses-1]`` say.

    Raises
    ------
    ValueError
        They are no labels of BIDS.
    """
    if not _SUBJECT.match(subject) or (session and not _SESSION.match(session)):
        raise ValueError(f"not a subject and session as sub-01 and ses-1: {subject!r}, {session!r}")
    return f"{subject}_{session}" if session else subject


def unit_folder(unit: str) -> str:
    """Folder of a unit below a dataset's root: ``sub-01`` or ``sub-01/ses-1``."""
    return unit.replace("_", "/")


def bids_name(suffix: str = "", extension: str = "", **entities: str | None) -> str:
    """Build a BIDS file name; entities appear in the standard's order.

    Parameters
    ----------
    suffix : str
        What the file is, e.g. ``dwimap``; empty for a bare entity chain.
    extension : str
        With its dot, e.g. ``.nii.gz``.
    **entities : str or None
        Values by entity name; None leaves the entity out.

    Raises
    ------
    ValueError
        An entity that BIDS does not have here, or a label with other than letters and digits.
    """
    if unknown := set(entities) - set(ENTITIES):
        raise ValueError(f"unknown BIDS entities {sorted(unknown)}; known: {ENTITIES}")
    parts = []
    for name in ENTITIES:
        if (label := entities.get(name)) is None:
            continue
        # Snakemake patterns carry {wildcards}, which stand for labels.
        if not _LABEL.match(label) and not label.startswith("{"):
            raise ValueError(f"BIDS label {name}-{label!r} must be letters and digits only")
        parts.append(f"{name}-{label}")
    return "_".join([*parts, *([suffix] if suffix else [])]) + extension


def _map(param: str, space: str, desc: str | None = None, model: str = "tensor") -> str:
    return bids_name("dwimap", ".nii.gz", space=space, desc=desc, model=model, param=param)


# Maps on the common grid that tasks may predict, and the model that each is of.
MAPS = {"fa": "tensor", "md": "tensor", "tensor": "tensor", "tdi": "tracts"}

# What a unit has in a derivative dataset: kind -> (datatype, name without the unit).
KINDS = {
    "dwi": ("dwi", bids_name("dwi", ".nii.gz", desc="preproc")),
    "bval": ("dwi", bids_name("dwi", ".bval", desc="preproc")),
    "bvec": ("dwi", bids_name("dwi", ".bvec", desc="preproc")),
    "preprocess-status": ("dwi", bids_name("status", ".json", desc="preproc")),
    **{f"dwi-{p}": ("dwi", _map(p, "dwi")) for p in ("fa", "md", "ad", "rd", "v1", "tensor")},
    "dwi-mask": ("dwi", bids_name("mask", ".nii.gz", space="dwi", desc="brain")),
    "b0": ("dwi", bids_name("dwiref", ".nii.gz", space="dwi", desc="meanb0")),
    "dti-status": ("dwi", bids_name("status", ".json", desc="dti")),
    "tractogram": ("dwi", bids_name("tractogram", ".tck", space="dwi")),
    "sift2-weights": ("dwi", bids_name("weights", ".txt", space="dwi", desc="sift2")),
    "tractography-status": ("dwi", bids_name("status", ".json", desc="tractography")),
    "tractography-picture": ("figures", bids_name("tractogram", ".png", desc="quality")),
    "t1w": ("anat", bids_name("T1w", ".nii.gz", space="T1w", desc="preproc")),
    "brain": ("anat", bids_name("mask", ".nii.gz", space="T1w", desc="brain")),
    "wm": ("anat", bids_name("mask", ".nii.gz", space="T1w", label="WM")),
    "anat-status": ("anat", bids_name("status", ".json", desc="anat")),
    **{param: ("dwi", _map(param, "T1w", model=model)) for param, model in MAPS.items()},
    "count": ("dwi", _map("count", "T1w", model="tracts")),
    "target-mask": ("dwi", bids_name("mask", ".nii.gz", space="T1w", desc="target")),
    "grid-status": ("dwi", bids_name("status", ".json", desc="grid")),
    "picture": ("figures", bids_name("T1w", ".png", desc="quality")),
    # What a task predicts, and its standard deviation, in scaled units.
    **{
        f"{desc}-{param}": ("dwi", _map(param, "T1w", desc, model))
        for desc in ("synth", "synthsd")
        for param, model in MAPS.items()
    },
    # Of synthetic tensors.
    "synth-v1": ("dwi", _map("v1", "T1w", "synth")),
    # Whatever a task predicts, for the workflow; {measure} as in `measure`.
    "synth": ("dwi", "space-T1w_desc-synth_{measure}_dwimap.nii.gz"),
    "synthsd": ("dwi", "space-T1w_desc-synthsd_{measure}_dwimap.nii.gz"),
    "synth-status": ("dwi", "desc-synth_{measure}_status.json"),
    "synth-tractogram": ("dwi", bids_name("tractogram", ".tck", space="T1w", desc="synth")),
    "synth-tractography-status": ("dwi", bids_name("status", ".json", desc="synthtractography")),
    # A continuous field of tract density, and what it says on the grid.
    "field": ("dwi", bids_name("field", ".safetensors", space="T1w")),
    "field-record": ("dwi", bids_name("field", ".json", space="T1w")),
    "field-tdi": ("dwi", _map("tdi", "T1w", "field", "tracts")),
    "field-tensor": ("dwi", _map("tensor", "T1w", "field")),
    "field-tractogram": ("dwi", bids_name("tractogram", ".tck", space="T1w", desc="field")),
    "field-tractogram-picture": ("figures", bids_name("tractogram", ".png", desc="field")),
    "field-tractography-status": ("dwi", bids_name("status", ".json", desc="fieldtractography")),
    "field-turntable": ("figures", bids_name("field", ".gif", desc="turntable")),
    "field-stills": ("figures", bids_name("field", ".png", desc="stills")),
    "render-status": ("dwi", bids_name("status", ".json", desc="render")),
    "field-status": ("dwi", bids_name("status", ".json", desc="field")),
    "held-out": ("dwi", bids_name("field", ".tsv", space="T1w", desc="heldout")),
    "held-out-status": ("dwi", bids_name("status", ".json", desc="heldout")),
    # What a fast scan would give, on its own coarse grid.
    "low-fa": ("dwi", _map("fa", "T1w", "lowres")),
    "truth-fa": ("dwi", _map("fa", "T1w", "truth")),
    "truth-tensor": ("dwi", _map("tensor", "T1w", "truth")),
    "truth-displacement": ("dwi", bids_name("displacement", ".nii.gz", space="T1w", desc="truth")),
    "truth-bundles": ("anat", bids_name("dseg", ".nii.gz", space="T1w", desc="bundles")),
}


def unit_path(root: str | Path, kind: str, folder: str = "{folder}", unit: str = "{unit}") -> str:
    """Path of one of a unit's files; the defaults give the workflow's pattern.

    Parameters
    ----------
    root : path
        The derivative dataset, e.g. ``results/demo`` or ``results/demo/synthetic/t1-fa/mean``.
    kind : str
        A key of `KINDS`.
    folder, unit : str
        ``sub-01/ses-1`` and ``sub-01_ses-1``.
    """
    datatype, name = KINDS[kind]
    return f"{root}/{folder}/{datatype}/{unit}_{name}"


def files_of(unit: str, root: str | Path) -> Callable[[str], Path]:
    """Give the function that finds one unit's files in a dataset, by their kind."""

    def find(kind: str) -> Path:
        return Path(unit_path(root, kind, unit_folder(unit), unit))

    return find


def low_root(root: str | Path, kind: str) -> Path:
    """Dataset of a kind of low resolution, such as ``dwi-2``, below that of the results."""
    return Path(root) / "low" / kind


def low_ratio(kind: str) -> int:
    """Ratio of a kind of low resolution, such as ``dwi-2``."""
    return int(kind.rpartition("-")[2])


def uri(path: str | Path, beside: str | Path) -> str:
    """Name a file as a sidecar does: by BIDS URI where it is in the sidecar's dataset.

    Parameters
    ----------
    path : path
        The file to be named.
    beside : path
        A file of the dataset, below a participant's folder; of no dataset where it is elsewhere.
    """
    people = [folder for folder in Path(beside).parents if folder.name.startswith("sub-")]
    if not people or not Path(path).is_relative_to(people[0].parent):
        return str(path)
    return f"bids::{Path(path).relative_to(people[0].parent).as_posix()}"


def unit_files(root: str | Path, unit: str) -> dict[str, Path]:
    """Path of every file of a unit in a derivative dataset, by kind."""
    return {kind: Path(unit_path(root, kind, unit_folder(unit), unit)) for kind in KINDS}


def slices_path(root: str | Path, name: str, folder: str = "{folder}", unit: str = "{unit}") -> str:
    """Path of one of a unit's files of slices, ``axial.npy`` or ``slices.json``.

    Parameters
    ----------
    root : path
        The derivative dataset, or that of a low resolution.
    name : str
    folder, unit : str
        As of `unit_path`.
    """
    return f"{root}/slices/{folder}/{unit}_{name}"


def slice_files(root: str | Path, unit: str, planes: Iterable[str]) -> tuple[Path, dict[str, Path]]:
    """Record of a unit's slices, and the slices of each orientation."""
    where = unit_folder(unit), unit
    slices = {plane: Path(slices_path(root, f"{plane}.npy", *where)) for plane in planes}
    return Path(slices_path(root, "slices.json", *where)), slices


def measure(kind: str) -> str:
    """Say what a kind of map measures, as its name does: ``model-tensor_param-fa``."""
    name = KINDS[kind][1]
    return name[name.index("model-") : name.index("_dwimap")]
