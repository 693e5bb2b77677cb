"""Simulated participants: T1w and DWI, with their ground truth.

They are made from the MNI152 anatomy, or of real parts: real T1s, FA and bundles of a group. Standard library only
here, so that the workflow can list participants without heavy imports.
"""

from pathlib import Path

from m2m.io.errors import DataError

# Maps of a group in MNI152 space that all participants of real parts share, below the folder of the ground truth.
GROUP_MAPS = {
    "fa": "tpl-MNI152NLin2009aSym_model-tensor_param-fa_dwimap.nii.gz",
    "orientation": "tpl-MNI152NLin2009aSym_desc-orientation_dwimap.nii.gz",
    "bundles": "tpl-MNI152NLin2009aSym_desc-bundles_dseg.nii.gz",
}


def labels(n_subjects: int) -> list[str]:
    """BIDS labels of the simulated participants, ``0001`` first."""
    return [f"{index:04d}" for index in range(1, n_subjects + 1)]


def list_anatomies(folder: Path) -> list[Path]:
    """T1s of a folder and its subfolders, sorted.

    Raises
    ------
    DataError
        There is no such folder, or no T1 in it.
    """
    found = sorted(path for path in folder.rglob("*T1w.nii*") if path.is_file())
    if not found:
        problem = "has no T1 (*T1w.nii.gz)" if folder.is_dir() else "there is no such folder"
        raise DataError(problem, file=folder, remedy="set cohort.template.anatomies; docs/data.md names sources")
    return found


def anatomy_of(label: str, anatomies: list[Path]) -> Path:
    """T1 that a participant is made of: anatomies are used in turn."""
    return anatomies[(int(label) - 1) % len(anatomies)]
