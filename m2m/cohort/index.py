"""List every T1w, DWI and brain mask of a BIDS dataset, once.

References
----------
Gorgolewski et al. (2016), Sci Data 3:160044, https://doi.org/10.1038/sdata.2016.44;
PyBIDS: Yarkoni et al. (2019), J Open Source Softw 4:1294, https://doi.org/10.21105/joss.01294.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from bids import BIDSLayout, BIDSLayoutIndexer
from bids.layout import parse_file_entities

from m2m.io.errors import DataError
from m2m.io.tables import write_table
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

COLUMNS = (
    "participant_id", "session_id", "run", "direction", "suffix",
    "path", "bval", "bvec", "json", "mask", "description",
)  # fmt: skip
SCANS = ("T1w", "dwi")
IMAGES = (".nii", ".nii.gz")
# Where BIDS has files: anything else is not searched, so that no link leads round in a circle.
NOT_BIDS = re.compile(r"^(?!(/[^/]+|/sub-[^/]*(/ses-[^/]*)?(/(?!ses-)[^/]+){0,2})\Z)")
# Derivatives in a template's space are not the person's anatomy; these spaces are.
NATIVE_SPACES = (None, "T1w", "orig", "ACPC")


@dataclass(frozen=True)
class File:
    """One file of a dataset: where it lies below the root, and what its name says."""

    path: PurePosixPath
    entities: dict[str, str | int]

    def __getitem__(self, entity: str) -> str | int | None:
        return self.entities.get(entity)


def list_files(root: str | Path) -> list[File]:
    """List images of interest with their gradients and sidecars, in order of path.

    Parameters
    ----------
    root : path
        A raw BIDS dataset, or QSIPrep/fMRIPrep derivatives. Only ``sub-*/[ses-*/]datatype`` is
        searched, and the folders above for what is inherited.
    """
    layout = BIDSLayout(
        root,
        validate=False,
        config=["bids", "derivatives"],
        indexer=BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[NOT_BIDS]),
    )
    found = layout.get(
        suffix=[*SCANS, "mask"], extension=[*IMAGES, ".bval", ".bvec", ".json"], return_type="file"
    )
    paths = sorted(PurePosixPath(Path(name).relative_to(layout.root).as_posix()) for name in found)
    # A layout reads entities off absolute paths, so that a folder `ses-1` above the dataset would
    # give every file a session: read them again from the path below the root.
    config = [layout.config["bids"], layout.config["derivatives"]]
    return [
        File(path, parse_file_entities(f"/{path}", config=config) | _folder_labels(path))
        for path in paths
    ]


def _folder_labels(path: PurePosixPath) -> dict[str, str]:
    """Person and session as the folders have them, with whatever BIDS forbids in a label.

    PyBIDS reads ``sub-a b`` as ``sub-a`` and ``sub-ü`` as nobody: nothing would be said of either.
    """
    entities = zip(("subject", "session"), path.parts[:-1], strict=False)
    return {
        entity: part[4:]
        for entity, part in entities
        if part.startswith({"subject": "sub-", "session": "ses-"}[entity])
    }


class Inheritance:
    """Finds the file that describes an image, by the BIDS inheritance principle.

    Up the folders from the image, a file applies if every entity in its name is in the image's
    too; the nearest wins, then the most specific. (PyBIDS's own search compares shared entities
    only, so it would lend ``acq-x_dwi.bval`` to an image without ``acq``, and is quadratic in
    the number of images.)
    """

    def __init__(self, files: list[File]):
        self._folders: dict[tuple, list[File]] = defaultdict(list)
        for file in files:
            self._folders[file.path.parent, file["suffix"], file["extension"]].append(file)

    def nearest(
        self, image: File, suffix: str, *extensions: str, ignore: tuple[str, ...] = ("extension",)
    ) -> File | None:
        """Nearest file of a suffix and extension that applies to an image."""
        for folder in image.path.parents:
            applies = [
                file
                for extension in extensions
                for file in self._folders.get((folder, suffix, extension), ())
                if all(image[k] == v for k, v in file.entities.items() if k not in ignore)
            ]
            if applies:
                return max(applies, key=lambda file: len(file.entities))
        return None


def _is_scan(file: File) -> bool:
    """Whether a file is a T1w or DWI magnitude image of a person in that person's own space."""
    return (
        file["suffix"] in SCANS
        and file["extension"] in IMAGES
        and file["subject"] is not None
        and file["space"] in NATIVE_SPACES
        and file["desc"] in (None, "preproc")
        and file["part"] in (None, "mag")
    )


def _is_mask(file: File) -> bool:
    """Whether a file is a brain mask in a person's own space."""
    return (
        file["suffix"] == "mask"
        and file["extension"] in IMAGES
        and file["subject"] is not None
        and file["space"] in NATIVE_SPACES
        and file["desc"] == "brain"
    )


def _prefer_preprocessed(scans: list[File]) -> list[File]:
    """Leave out scans of which the same person and session has a preprocessed version."""

    def key(file: File) -> tuple:
        return file["subject"], file["session"], file["suffix"]

    preprocessed = {key(file) for file in scans if file["desc"] == "preproc"}
    return [f for f in scans if f["desc"] == "preproc" or key(f) not in preprocessed]


def build_manifest(root: str | Path, files: list[File]) -> list[dict[str, str | None]]:
    """Describe every scan and brain mask in a row of `COLUMNS`.

    Parameters
    ----------
    root : path
        Prefixed to every path as given, so that relative paths stay relative.
    files : list of File
        All of the dataset, see `list_files`.
    """
    inheritance = Inheritance(files)

    def path_of(file: File | None) -> str | None:
        return None if file is None else str(Path(root) / file.path)

    def row_of(file: File) -> dict[str, str | None]:
        suffix = str(file["suffix"])
        row = {
            "participant_id": f"sub-{file['subject']}",
            "session_id": None if file["session"] is None else f"ses-{file['session']}",
            "run": None if file["run"] is None else str(file["run"]),
            "direction": file["direction"],
            "suffix": suffix,
            "path": path_of(file),
            "json": path_of(inheritance.nearest(file, suffix, ".json")),
            "description": file["desc"],
        }
        if suffix == "dwi":
            row["bval"] = path_of(inheritance.nearest(file, "dwi", ".bval"))
            row["bvec"] = path_of(inheritance.nearest(file, "dwi", ".bvec"))
        if suffix != "mask":
            ignore = ("extension", "suffix", "desc")
            mask = inheritance.nearest(file, "mask", *IMAGES, ignore=ignore)
            row["mask"] = path_of(mask) if mask and mask["space"] == file["space"] else None
        return row

    scans = _prefer_preprocessed([file for file in files if _is_scan(file)])
    masks = [file for file in files if _is_mask(file)]
    return [row_of(file) for file in scans + masks]


def main(
    bids_dir: Annotated[Path, typer.Option(help="Raw BIDS dataset, or derivatives.")],
    manifest: Annotated[Path, typer.Option(help="Table to write, one row per scan.")],
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort`.")] = None,
    config: ConfigFile = None,
) -> None:
    """List every scan of a BIDS dataset."""
    section_of("cohort", config, options, needed=False)
    if not bids_dir.is_dir():
        raise DataError(
            "BIDS dataset is not a folder", file=bids_dir, remedy="correct cohort.bids_dir"
        )
    rows = build_manifest(bids_dir, list_files(bids_dir))
    count = Counter(row["suffix"] for row in rows)
    if not count["T1w"] and not count["dwi"]:
        raise DataError(
            "BIDS dataset has no T1w and no DWI image",
            file=bids_dir,
            value=f"{len(rows)} images",
            remedy="give the folder that holds sub-*/anat/*_T1w.nii.gz and sub-*/dwi/*_dwi.nii.gz",
        )
    write_table(manifest, rows, COLUMNS)
    people = len({row["participant_id"] for row in rows})
    print(f"{people} participants: {count['T1w']} T1w, {count['dwi']} DWI, {count['mask']} masks")
