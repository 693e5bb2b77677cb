"""List every T1w, DWI and brain mask of a BIDS dataset.

References
----------
Gorgolewski et al. (2016), Sci Data 3:160044, https://doi.org/10.1038/sdata.2016.44;
PyBIDS: Yarkoni et al. (2019), J Open Source Softw 4:1294, https://doi.org/10.21105/joss.01294.
"""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from bids import BIDSLayout, BIDSLayoutIndexer
from bids.layout import parse_file_entities

from m2m.cohort.bidsignore import Ignored
from m2m.io.bvalues import WORLD_TABLE
from m2m.io.errors import DataError, unreadable
from m2m.io.files import NIFTI, read_json, require_regular
from m2m.io.quoting import printable
from m2m.io.tables import write_table
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

COLUMNS = (
    "participant_id",
    "session_id",
    "run",
    "direction",
    "suffix",
    "path",
    "bval",
    "bvec",
    "json",
    "mask",
    "description",
    "left_out",
)
SCANS = ("T1w", "dwi")
# BIDS has NIfTI only; images in formats of other programs are taken, or refused by name, where there is no NIfTI.
OTHER_FORMATS = (".mgh", ".mgz", ".img")
IMAGES = (*NIFTI, *OTHER_FORMATS)
TABLES = (".bval", ".bvec", ".b", ".json")
# Folders other than those of BIDS are not searched, so that circular links do no harm.
NOT_BIDS = re.compile(
    r"^(?!(/[^/]+|/sub-[^/]*(/ses-[^/]*)?(/(?!ses-)[^/]+){0,2})\Z)|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)
SCAN_NAME = re.compile(r"_(T1w|dwi)(?=\.(nii|nii\.gz|mgh|mgz|img)\Z)")
MOST_DESCRIPTION_BYTES = 1e7
# Spaces of the participant's own anatomy; derivatives in a template's space are not listed.
NATIVE_SPACES = (None, "T1w", "orig", "ACPC", "DWI", "dwi")
# `desc` of preprocessed scans: of BIDS, fMRIPrep and QSIPrep; of DESIGNER. The first has precedence.
PREPROCESSED = ("preproc", "designer")
IGNORED = "is listed in .bidsignore"


@dataclass(frozen=True)
class File:
    """One file of a dataset: its path below the root, and the entities in its name."""

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
        searched, and their parent folders for inherited files.

    Returns
    -------
    list of File

    Raises
    ------
    DataError
        The dataset's description is no file that PyBIDS can read to its end.
    """
    require_readable(Path(root))
    layout = BIDSLayout(
        root,
        validate=False,
        config=["bids", "derivatives"],
        indexer=BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[NOT_BIDS]),
    )
    found = layout.get(suffix=[*SCANS, "mask"], extension=[*IMAGES, *TABLES], return_type="file")
    paths = sorted(PurePosixPath(Path(name).relative_to(layout.root).as_posix()) for name in found)
    # PyBIDS reads entities from absolute paths, so a folder `ses-1` above the dataset would give
    # every file a session: read them again from the path below the root.
    config = [layout.config["bids"], layout.config["derivatives"]]
    listed = [File(path, parse_file_entities(f"/{path}", config=config) | _folder_labels(path)) for path in paths]
    return [file for file in listed if not file.path.name.startswith(".")] + list(_unlisted_scans(Path(root)))


def require_readable(root: Path) -> None:
    """Raise DataError unless PyBIDS would come to the end of the dataset's description and of its .bidsignore.

    It does without a description that is no JSON at all, but not without one that is nested too deeply.
    """
    description = root / "dataset_description.json"
    for path in (description, root / ".bidsignore"):
        if os.path.lexists(path):
            require_regular(path, path.name, MOST_DESCRIPTION_BYTES)
    try:
        read_json(description)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return
    except (OSError, ValueError) as error:
        raise unreadable(error, "description of the dataset", description, "correct it, or remove it") from error


def _unlisted_scans(root: Path) -> Iterator[File]:
    """Scans with a line break or bytes that are no text in their path, which PyBIDS cannot hold.

    Their paths are written with escapes: they are not opened, but reported by name.
    """
    for pattern in ("sub-*/*/*", "sub-*/ses-*/*/*"):
        for path in sorted(root.glob(pattern)):
            below = path.relative_to(root).as_posix()
            if printable(below) != below and (scan := SCAN_NAME.search(path.name)):
                shown = PurePosixPath(printable(below))
                extension, suffix = path.name[scan.end(1) :], scan[1]
                yield File(shown, {"suffix": suffix, "extension": extension} | _folder_labels(shown))


def _folder_labels(path: PurePosixPath) -> dict[str, str]:
    """Participant and session from the names of folders, with characters that BIDS forbids in labels.

    PyBIDS reads ``sub-a b`` as ``sub-a`` and ``sub-ü`` as no participant, so neither would be reported.
    """
    entities = zip(("subject", "session"), path.parts[:-1], strict=False)
    return {
        entity: part[4:] for entity, part in entities if part.startswith({"subject": "sub-", "session": "ses-"}[entity])
    }


class Inheritance:
    """Finds the file that describes an image, by the BIDS inheritance principle.

    In the image's folder and its parents, a file applies if the image's name has all of its
    entities; the nearest one is used, then the most specific. (PyBIDS's own search compares shared
    entities only, so it would apply ``acq-x_dwi.bval`` to an image without ``acq``; it is also
    quadratic in the number of images.)

    Parameters
    ----------
    files : list of File
        All of the dataset.
    """

    def __init__(self, files: list[File]):
        self._folders: dict[tuple, list[File]] = defaultdict(list)
        for file in files:
            self._folders[file.path.parent, file["suffix"], file["extension"]].append(file)

    def nearest(
        self, image: File, suffix: str, *extensions: str, ignore: tuple[str, ...] = ("extension",)
    ) -> File | None:
        """Nearest file of a suffix and extension that applies to an image.

        Parameters
        ----------
        image : File
        suffix : str
        *extensions : str
            With their dots.
        ignore : tuple of str
            Entities that need not agree.

        Returns
        -------
        File or None
        """
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
    """Whether a file is a T1w or DWI image of a participant."""
    return file["suffix"] in SCANS and file["extension"] in IMAGES and file["subject"] is not None


def why_left_out(file: File) -> str | None:
    """Why a T1w or DWI image is not taken; None where it is a magnitude image in the participant's own space."""
    if file["part"] not in (None, "mag"):
        return f"part-{file['part']} is no magnitude image"
    if file["space"] not in NATIVE_SPACES:
        return f"space-{file['space']} is not the participant's own"
    if file["desc"] not in (None, *PREPROCESSED):
        return f"desc-{file['desc']} is not known as preprocessed (known: {', '.join(PREPROCESSED)})"
    return None


def _is_mask(file: File) -> bool:
    """Whether a file is a brain mask in a participant's own space."""
    return (
        file["suffix"] == "mask"
        and file["extension"] in IMAGES
        and file["subject"] is not None
        and file["space"] in NATIVE_SPACES
        and file["desc"] == "brain"
    )


def _replaced(scans: list[File]) -> dict[PurePosixPath, str]:
    """Why a scan is not taken, by path, that has a preprocessed version of the same participant and session."""

    def key(file: File) -> tuple:
        return file["subject"], file["session"], file["suffix"]

    best: dict[tuple, int] = {}
    for file in scans:
        best[key(file)] = min(best.get(key(file), len(PREPROCESSED)), _precedence(file))
    return {
        file.path: f"desc-{PREPROCESSED[best[key(file)]]} of this session is taken instead"
        for file in scans
        if _precedence(file) > best[key(file)]
    }


def _precedence(file: File) -> int:
    """Position of a scan's `desc` among those of preprocessed scans; raw scans are last."""
    return PREPROCESSED.index(str(file["desc"])) if file["desc"] in PREPROCESSED else len(PREPROCESSED)


def _prefer_nifti(images: list[File]) -> list[File]:
    """Omit images of other formats that lie beside a NIfTI of the same name."""

    def name(file: File) -> str:
        return str(file.path).removesuffix(str(file["extension"]))

    nifti = {name(file) for file in images if file["extension"] in NIFTI}
    return [file for file in images if file["extension"] in NIFTI or name(file) not in nifti]


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def build_manifest(root: str | Path, files: list[File]) -> list[dict[str, str | None]]:
    """Describe every scan and brain mask in a row of `COLUMNS`.

    Parameters
    ----------
    root : path
        Prefix of every path, unchanged, so that relative paths stay relative.
    files : list of File
        All of the dataset, see `list_files`.

    Returns
    -------
    list of dict
        Scans that are not taken are last, with the reason in ``left_out``.
    """
    ignored = Ignored(root)
    named = [file for file in files if file.path in ignored]
    files = [file for file in files if file.path not in ignored]
    inheritance = Inheritance(files)

    def path_of(file: File | None) -> str | None:
        return None if file is None else str(Path(root) / file.path)

    def row_of(file: File) -> dict[str, str | None]:
        suffix = str(file["suffix"])
        row: dict[str, str | None] = {
            "participant_id": f"sub-{file['subject']}",
            "session_id": None if file["session"] is None else f"ses-{file['session']}",
            "run": _text(file["run"]),
            "direction": _text(file["direction"]),
            "suffix": suffix,
            "path": path_of(file),
            "json": path_of(inheritance.nearest(file, suffix, ".json")),
            "description": _text(file["desc"]),
        }
        if suffix == "dwi":
            tables = {kind: inheritance.nearest(file, "dwi", kind) for kind in (".bval", ".bvec", WORLD_TABLE)}
            first = (WORLD_TABLE, ".bvec") if file["desc"] in PREPROCESSED else (".bvec", WORLD_TABLE)
            row["bval"] = path_of(tables[".bval"] or tables[WORLD_TABLE])
            row["bvec"] = path_of(tables[first[0]] or tables[first[1]])
        if suffix != "mask":
            ignore = ("extension", "suffix", "desc")
            mask = inheritance.nearest(file, "mask", *IMAGES, ignore=ignore)
            row["mask"] = path_of(mask) if mask and mask["space"] == file["space"] else None
        return row

    scans = _prefer_nifti([file for file in files if _is_scan(file)])
    reasons = {file.path: reason for file in scans if (reason := why_left_out(file))}
    reasons |= _replaced([file for file in scans if file.path not in reasons])
    left_out = [row_of(file) | {"left_out": reasons[file.path]} for file in scans if file.path in reasons]
    left_out += [row_of(file) | {"left_out": IGNORED} for file in named if _is_scan(file)]
    masks = _prefer_nifti([file for file in files if _is_mask(file)])
    return [row_of(file) for file in [f for f in scans if f.path not in reasons] + masks] + left_out


def main(
    bids_dir: Annotated[Path, typer.Option(help="Raw BIDS dataset, or derivatives.")],
    manifest: Annotated[Path, typer.Option(help="Table to write, one row per scan.")],
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort`.")] = None,
    config: ConfigFile = None,
) -> None:
    """List every scan of a BIDS dataset."""
    section_of("cohort", config, options, needed=False)
    if not bids_dir.is_dir():
        raise DataError("BIDS dataset is not a folder", file=bids_dir, remedy="correct cohort.bids_dir")
    rows = build_manifest(bids_dir, list_files(bids_dir))
    count = Counter(row["suffix"] for row in rows if not row.get("left_out"))
    left_out = Counter(f"{row['suffix']}: {row['left_out']}" for row in rows if row.get("left_out"))
    if not count["T1w"] and not count["dwi"]:
        found = [f"{len(rows)} images", *(f"{n} x {reason}" for reason, n in left_out.most_common())]
        raise DataError(
            "BIDS dataset has no T1w and no DWI image" + " that is taken" * bool(left_out),
            file=bids_dir,
            value=", ".join(found),
            remedy="give the folder that holds sub-*/anat/*_T1w.nii.gz and sub-*/dwi/*_dwi.nii.gz",
        )
    write_table(manifest, rows, COLUMNS)
    subjects = len({row["participant_id"] for row in rows if not row.get("left_out")})
    print(f"{subjects} participants: {count['T1w']} T1w, {count['dwi']} DWI, {count['mask']} masks")
    for reason, n in left_out.most_common():
        print(f"not taken, {n} x {reason}")
