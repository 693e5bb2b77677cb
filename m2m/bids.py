"""Names of files: one function builds every path of the workflow, in BIDS words.

References
----------
Gorgolewski et al. (2016), Sci Data 3:160044, https://doi.org/10.1038/sdata.2016.44;
BIDS extension proposal 16 for the names of diffusion maps.
"""

import re
from pathlib import Path

ENTITIES = ("sub", "ses", "run", "space", "res", "label", "desc", "model", "param")
_LABEL = re.compile(r"[A-Za-z0-9]+\Z")


def unit_name(participant: str, session: str | None = None) -> str:
    """Name the unit of analysis, one participant in one session: ``sub-01[_ses-1]``."""
    return bids_name(sub=participant.removeprefix("sub-"), ses=session)


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


def derivative(root: str | Path, folder: str, unit: str, datatype: str, name: str) -> str:
    """Path of one of a unit's files in a derivative dataset.

    Parameters
    ----------
    root : path
        The dataset, e.g. ``results/demo``.
    folder, unit : str
        ``sub-01/ses-1`` and ``sub-01_ses-1``, or their wildcards.
    datatype : str
        ``anat``, ``dwi`` or ``figures``.
    name : str
        The name without the unit, from `bids_name`.
    """
    return f"{root}/{folder}/{datatype}/{unit}_{name}"
