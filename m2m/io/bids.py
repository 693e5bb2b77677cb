"""Names of files: every path of the workflow, as BIDS names.

References
----------
Gorgolewski et al. (2016), Sci Data 3:160044, https://doi.org/10.1038/sdata.2016.44;
BIDS extension proposal 16 for the names of diffusion maps.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from m2m.io.errors import DataError
from m2m.io.quoting import printable

# Braces are Snakemake's wildcards; a backslash starts the escape of a control character in tables.
UNUSUAL = {"{": "a brace", "}": "a brace", "\\": "a backslash or a control character"}
ENTITIES = (
    *("sub", "ses", "acq", "ce", "rec", "run", "from", "to", "mode"),
    *("space", "res", "label", "desc", "model", "param"),
)
_LABEL = re.compile(r"[A-Za-z0-9]+\Z")
_LOW_RES = re.compile(r"(?:dwi|map)-([248])\Z")
_SUBJECT, _SESSION = (re.compile(rf"{name}-[A-Za-z0-9]+\Z") for name in ("sub", "ses"))
# Names of datasets, tasks and models are names of folders, and values of wildcards.
NAME = r"^[A-Za-z0-9][A-Za-z0-9-]*$"
# Snakemake's patterns have a {wildcard} in place of a label or name.
_WILDCARD = re.compile(r"(sub-)?\{(folder|unit|participant)\}([/_]ses-[A-Za-z0-9]+)?\Z")


def unit_name(participant: str, session: str | None = None) -> str:
    """Name the unit of analysis, one participant in one session: ``sub-01[_ses-1]``."""
    return bids_name(sub=participant.removeprefix("sub-"), ses=session)


def unit_of(subject: str, session: str | None = None) -> str:
    """Name the unit given by a stage's ``--subject sub-01 [--session ses-1]``.

    Raises
    ------
    DataError
        They are not BIDS labels.
    """
    unit = f"{subject}_{session}" if session else subject
    if not _SUBJECT.match(subject) or not is_unit(unit):
        named = repr(subject) + (f", {session!r}" if session else "")
        raise DataError(
            "not a subject and session as sub-01 and ses-1", value=named, remedy="labels have letters and digits only"
        )
    return unit


def is_unit(name: str) -> bool:
    """Whether a name is that of a unit, ``sub-01`` or ``sub-01_ses-1``; no other may be part of a path."""
    subject, _, session = name.partition("_")
    return bool(_SUBJECT.match(subject)) and (subject == name or bool(_SESSION.match(session)))


def participant_of(unit: str) -> str:
    """Participant of a unit: ``sub-01`` of ``sub-01_ses-1``."""
    return unit.partition("_")[0]


def unit_folder(unit: str) -> str:
    """Folder of a unit below a dataset's root: ``sub-01`` or ``sub-01/ses-1``.

    Raises
    ------
    DataError
        It is not the name of a unit.
    """
    return _checked(unit).replace("_", "/")


def require_name(name: str, what: str) -> str:
    """Return the name of a dataset, task or model where it is one of letters, digits and hyphens.

    Parameters
    ----------
    name : str
    what : str
        What it names, for the message.

    Returns
    -------
    str

    Raises
    ------
    DataError
        It has other characters, and could lead out of a folder.
    """
    if not re.match(NAME.replace("$", r"\Z"), name):
        raise DataError(
            f"not a name of a {what}", value=repr(name), remedy="names have letters, digits and hyphens only"
        )
    return name


def _checked(unit: str) -> str:
    """Return the name of a unit; raise DataError for any other text."""
    if not is_unit(unit):
        remedy = "labels have letters and digits only: rename the files"
        raise DataError("not a name of a participant, or of its session", value=repr(unit), remedy=remedy)
    return unit


def _require_place(folder: str, unit: str) -> None:
    """Raise DataError unless this is the folder of this unit; a wildcard may stand for either."""
    wildcards = bool(_WILDCARD.match(folder)), bool(_WILDCARD.match(unit))
    if not wildcards[1]:
        expected = unit_folder(unit)
        if not wildcards[0] and folder != expected:
            raise DataError(f"not the folder of {unit}", value=repr(folder), remedy=f"it is {expected}")
    elif not wildcards[0]:
        _checked(folder.replace("/", "_"))


def bids_name(suffix: str = "", extension: str = "", **entities: str | None) -> str:
    """Build a BIDS file name; entities appear in the standard's order.

    Parameters
    ----------
    suffix : str
        BIDS suffix, e.g. ``dwimap``; empty for entities only.
    extension : str
        With its dot, e.g. ``.nii.gz``.
    **entities : str or None
        Values by entity name; None omits the entity.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        An unknown entity, or a label with characters other than letters and digits.
    """
    if unknown := set(entities) - set(ENTITIES):
        raise ValueError(f"unknown BIDS entities {sorted(unknown)}; known: {ENTITIES}")
    parts = []
    for name in ENTITIES:
        if (label := entities.get(name)) is None:
            continue
        if not _LABEL.match(label) and not _WILDCARD.match(label):
            raise ValueError(f"BIDS label {name}-{label!r} must be letters and digits only")
        parts.append(f"{name}-{label}")
    return "_".join([*parts, *([suffix] if suffix else [])]) + extension


def _map(param: str, space: str, desc: str | None = None, model: str = "tensor") -> str:
    return bids_name("dwimap", ".nii.gz", space=space, desc=desc, model=model, param=param)


# Label of the template's space, ICBM 2009a nonlinear symmetric.
TEMPLATE = "MNI152NLin2009aSym"
# Maps on the common grid that tasks may predict, and the BIDS model that each is derived from.
MAPS = {"fa": "tensor", "md": "tensor", "tensor": "tensor", "tdi": "tracts"}


def _transform(start: str, end: str) -> str:
    """Name of a transform of points from one space to another."""
    return bids_name("xfm", ".nii.gz", **{"from": start, "to": end, "mode": "points"})


# Files of a unit in a derivative dataset: kind -> (datatype, name without the unit).
KINDS = {
    "dwi": ("dwi", bids_name("dwi", ".nii.gz", desc="preproc")),
    "bval": ("dwi", bids_name("dwi", ".bval", desc="preproc")),
    "bvec": ("dwi", bids_name("dwi", ".bvec", desc="preproc")),
    "preprocess-status": ("dwi", bids_name("status", ".json", desc="preproc")),
    "joined-dwi": ("dwi", bids_name("dwi", ".nii.gz", desc="joined")),
    "joined-bval": ("dwi", bids_name("dwi", ".bval", desc="joined")),
    "joined-bvec": ("dwi", bids_name("dwi", ".bvec", desc="joined")),
    "joined-status": ("dwi", bids_name("status", ".json", desc="joined")),
    **{f"dwi-{p}": ("dwi", _map(p, "dwi")) for p in ("fa", "md", "ad", "rd", "v1", "tensor")},
    "dwi-mask": ("dwi", bids_name("mask", ".nii.gz", space="dwi", desc="brain")),
    "b0": ("dwi", bids_name("dwiref", ".nii.gz", space="dwi", desc="meanb0")),
    "dti-status": ("dwi", bids_name("status", ".json", desc="dti")),
    "tractogram": ("dwi", bids_name("tractogram", ".trx", space="dwi")),
    "sift2-weights": ("dwi", bids_name("weights", ".txt", space="dwi", desc="sift2")),
    "tractography-status": ("dwi", bids_name("status", ".json", desc="tractography")),
    "tractography-figure": ("figures", bids_name("tractogram", ".png", desc="quality")),
    "t1w": ("anat", bids_name("T1w", ".nii.gz", space="T1w", desc="preproc")),
    "brain": ("anat", bids_name("mask", ".nii.gz", space="T1w", desc="brain")),
    "wm": ("anat", bids_name("mask", ".nii.gz", space="T1w", label="WM")),
    "anat-status": ("anat", bids_name("status", ".json", desc="anat")),
    # Displacements between T1 and template, both on the common grid; the affine is in the status of anat.
    "deformation": ("anat", _transform("T1w", TEMPLATE)),
    "inverse-deformation": ("anat", _transform(TEMPLATE, "T1w")),
    "deform-status": ("anat", bids_name("status", ".json", desc="deform")),
    "deform-figure": ("figures", bids_name("T1w", ".png", desc="deform")),
    **{param: ("dwi", _map(param, "T1w", model=model)) for param, model in MAPS.items()},
    "count": ("dwi", _map("count", "T1w", model="tracts")),
    "target-mask": ("dwi", bids_name("mask", ".nii.gz", space="T1w", desc="target")),
    "grid-status": ("dwi", bids_name("status", ".json", desc="grid")),
    "qc": ("figures", bids_name("T1w", ".png", desc="quality")),
    # Predicted map of a task, and its standard deviation, in scaled units.
    **{
        f"{desc}-{param}": ("dwi", _map(param, "T1w", desc, model))
        for desc in ("synth", "synthsd")
        for param, model in MAPS.items()
    },
    # Principal direction of synthetic tensors.
    "synth-v1": ("dwi", _map("v1", "T1w", "synth")),
    # Predicted map of any task, for the workflow; {measure} as in `measure`.
    "synth": ("dwi", "space-T1w_desc-synth_{measure}_dwimap.nii.gz"),
    "synthsd": ("dwi", "space-T1w_desc-synthsd_{measure}_dwimap.nii.gz"),
    "synth-status": ("dwi", "desc-synth_{measure}_status.json"),
    # Map of a real pair by another method; {method} as in `pair_map`.
    **{
        f"pair-{param}": ("dwi", f"space-T1w_desc-{{method}}_model-{model}_param-{param}_dwimap.nii.gz")
        for param, model in MAPS.items()
    },
    "pair-status": ("dwi", bids_name("status", ".json", desc="pair")),
    "synth-tractogram": ("dwi", bids_name("tractogram", ".trx", space="T1w", desc="synth")),
    "synth-tractography-status": ("dwi", bids_name("status", ".json", desc="synthtractography")),
    # A continuous field of tract density, and its samples on the grid.
    "field": ("dwi", bids_name("field", ".safetensors", space="T1w")),
    "field-record": ("dwi", bids_name("field", ".json", space="T1w")),
    "field-tdi": ("dwi", _map("tdi", "T1w", "field", "tracts")),
    "field-tensor": ("dwi", _map("tensor", "T1w", "field")),
    "field-tractogram": ("dwi", bids_name("tractogram", ".trx", space="T1w", desc="field")),
    "field-tractogram-figure": ("figures", bids_name("tractogram", ".png", desc="field")),
    "field-tractography-status": ("dwi", bids_name("status", ".json", desc="fieldtractography")),
    "field-turntable": ("figures", bids_name("field", ".gif", desc="turntable")),
    "field-stills": ("figures", bids_name("field", ".png", desc="stills")),
    "render-status": ("dwi", bids_name("status", ".json", desc="render")),
    "field-status": ("dwi", bids_name("status", ".json", desc="field")),
    "held-out": ("dwi", bids_name("field", ".tsv", space="T1w", desc="heldout")),
    "held-out-status": ("dwi", bids_name("status", ".json", desc="heldout")),
    # Simulated map of a fast scan, on its own coarse grid.
    "low-res-fa": ("dwi", _map("fa", "T1w", "lowres")),
    "truth-fa": ("dwi", _map("fa", "T1w", "truth")),
    "truth-tensor": ("dwi", _map("tensor", "T1w", "truth")),
    "truth-displacement": ("dwi", bids_name("displacement", ".nii.gz", space="T1w", desc="truth")),
    "truth-bundles": ("anat", bids_name("dseg", ".nii.gz", space="T1w", desc="bundles")),
}


def unit_path(root: str | Path, kind: str, folder: str = "{folder}", unit: str = "{unit}") -> str:
    """Path of one file of a unit; the defaults give the workflow's pattern.

    Parameters
    ----------
    root : path
        The derivative dataset, e.g. ``results/demo`` or ``results/demo/synthetic/t1-fa/mean``.
    kind : str
        A key of `KINDS`.
    folder, unit : str
        ``sub-01/ses-1`` and ``sub-01_ses-1``.

    Returns
    -------
    str

    Raises
    ------
    DataError
        It is no name of a unit, or the folder is not that of the unit.
    """
    _require_place(folder, unit)
    datatype, name = KINDS[kind]
    return f"{root}/{folder}/{datatype}/{unit}_{name}"


def files_of(unit: str, root: str | Path) -> Callable[[str], Path]:
    """Return a function from a kind of file to its path, for one unit of a dataset."""

    def find(kind: str) -> Path:
        return Path(unit_path(root, kind, unit_folder(unit), unit))

    return find


def pair_map(root: str | Path, unit: str, method: str, kind: str) -> Path:
    """Path of a real pair's map, such as ``fa``, by a method, such as ``atlas-syn``: BIDS labels have no hyphens."""
    return Path(str(files_of(unit, root)(f"pair-{kind}")).format(method=method.replace("-", "")))


def low_res_root(root: str | Path, kind: str) -> Path:
    """Folder of the dataset of one low resolution, such as ``dwi-2``, below the results."""
    low_res_factor(kind)  # refuses any other name
    return Path(root) / "low_res" / kind


def low_res_factor(kind: str) -> int:
    """Downsampling factor of a low resolution, such as ``dwi-2``.

    Raises
    ------
    DataError
        The name is not of this form.
    """
    if not (found := _LOW_RES.match(kind)):
        remedy = "name a low resolution as in the tasks"
        raise DataError("not a kind of low resolution as dwi-2 or map-4", value=repr(kind), remedy=remedy)
    return int(found[1])


def unusual_characters(path: str) -> str:
    """Name the characters of a path that the workflow, tables or terminals would take for something else.

    Returns
    -------
    str
        Such as ``a brace``; empty where there are none.
    """
    found = {
        UNUSUAL.get(c, "a control character or a byte that is no text")
        for c in path
        if c in UNUSUAL or printable(c) != c
    }
    return ", ".join(sorted(found))


def unit_files(root: str | Path, unit: str) -> dict[str, Path]:
    """Path of every file of a unit in a derivative dataset, by kind."""
    return {kind: Path(unit_path(root, kind, unit_folder(unit), unit)) for kind in KINDS}


def slices_path(root: str | Path, name: str, folder: str = "{folder}", unit: str = "{unit}") -> str:
    """Path of one file of a unit's slices, ``axial.npy`` or ``slices.json``.

    Parameters
    ----------
    root : path
        The derivative dataset, or the dataset of a low resolution.
    name : str
        ``<orientation>.npy`` or ``slices.json``.
    folder, unit : str
        As in `unit_path`.

    Returns
    -------
    str
    """
    _require_place(folder, unit)
    return f"{root}/slices/{folder}/{unit}_{name}"


def slice_files(root: str | Path, unit: str, planes: Iterable[str]) -> tuple[Path, dict[str, Path]]:
    """Paths of a unit's slices.

    Parameters
    ----------
    root : path
        The derivative dataset, or the dataset of a low resolution.
    unit : str
        ``sub-01_ses-1``.
    planes : iterable of str
        Orientations, such as ``axial``.

    Returns
    -------
    record : Path
        ``slices.json``.
    slices : dict of str to Path
        The ``.npy`` file of each orientation.
    """
    where = unit_folder(unit), unit
    slices = {plane: Path(slices_path(root, f"{plane}.npy", *where)) for plane in planes}
    return Path(slices_path(root, "slices.json", *where)), slices


def measure(kind: str) -> str:
    """Part of a map's name that states its measure: ``model-tensor_param-fa``."""
    name = KINDS[kind][1]
    return name[name.index("model-") : name.index("_dwimap")]
