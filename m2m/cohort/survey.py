"""What a BIDS dataset holds, as far as a study's configuration depends on it.

Headers, gradient tables and participants.tsv are read, voxels are not.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from m2m.cohort.gradients import FARTHEST_B0_S_PER_MM2, read_gradient_table
from m2m.cohort.index import COLUMNS, build_manifest, list_files
from m2m.cohort.participants import read_participants
from m2m.cohort.spellings import Row, number
from m2m.cohort.validate import validate
from m2m.io.bvalues import determine_tensor, distinct_directions, shell_values, shells
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.options import Cohort, Dti

# Texts of more different values are no classes, nor are whole numbers of more different values.
MOST_CLASSES, MOST_CODES = 10, 5
# What a unit of each state has, in words.
STATES = {"paired": "T1w and DWI", "t1w-only": "T1w only", "dwi-only": "DWI only", "failed": "no usable scan"}
# Columns that the split and the covariates take, or that name a participant.
NO_PHENOTYPES = ("participant_id", "session_id", "family_id", "site")


@dataclass(frozen=True)
class Series:
    """A diffusion series.

    Attributes
    ----------
    spacing_mm : tuple of float
        Voxel size along the image's axes.
    shells : tuple of (float, int)
        Median b-value in s/mm2 and number of distinct directions of each, lowest first.
    least_b : float
        Lowest b-value of a shell, s/mm2, up to which the volumes determine a tensor.
    """

    spacing_mm: tuple[float, ...]
    shells: tuple[tuple[float, int], ...]
    least_b: float


@dataclass(frozen=True)
class Anatomical:
    """A T1w: voxel size along its axes, and field of view (mm, between the outermost voxels) along x, y and z."""

    spacing_mm: tuple[float, ...]
    extent_mm: tuple[float, ...]


@dataclass(frozen=True)
class Phenotype:
    """A column of participants.tsv that could be predicted.

    Attributes
    ----------
    name : str
    kind : {"regression", "classification"}
    values : tuple of str
        Of the participants with both scans (where the dataset has no DWI: with a T1w), as far as they are known.
    """

    name: str
    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Needed:
    """Options without which participants with both scans would be dropped.

    Attributes
    ----------
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2: above the default where series have no lower one.
    n_by_b0, n_by_session : int
        Participants who take part by that, and by pairing a DWI with the T1w of another session.
    """

    b0_threshold: float = Dti().b0_threshold_s_per_mm2
    n_by_b0: int = 0
    n_by_session: int = 0


@dataclass(frozen=True)
class Survey:
    """What a dataset holds.

    Attributes
    ----------
    root : Path
        The dataset.
    name : str
        Its name in dataset_description.json, or that of its folder.
    units : list of dict
        Rows of `m2m.cohort.validate.UNIT_COLUMNS`: a participant in one session each.
    t1s : list of Anatomical
        Every usable T1w.
    series : list of Series
        The DWI of every unit with a usable T1w and DWI.
    masks, preprocessed : mapping of str to int
        How many of these T1w and DWI have a brain mask beside them, and are ``desc-preproc``, by suffix.
    columns : tuple of str
        Of participants.tsv; none where there is no such table.
    phenotypes : list of Phenotype
    needed : Needed
        Units and series are listed with it.
    """

    root: Path
    name: str
    units: list[Row]
    t1s: list[Anatomical]
    series: list[Series]
    masks: Mapping[str, int]
    preprocessed: Mapping[str, int]
    columns: tuple[str, ...]
    phenotypes: list[Phenotype]
    needed: Needed = Needed()

    @property
    def without_dwi(self) -> bool:
        """Whether there is a T1w, and not one usable DWI."""
        return not self.participants("paired", "dwi-only")

    def participants(self, *states: str) -> int:
        """Number of participants with a unit in one of these states; of all participants without any."""
        return len({row["participant_id"] for row in self.units if not states or row["state"] in states})

    @property
    def counts(self) -> str:
        """Units by the scans that can be used: ``3 with T1w and DWI, 1 with T1w only``."""
        count = Counter(row["state"] for row in self.units)
        return ", ".join(f"{count[state]} with {scans}" for state, scans in STATES.items() if count[state])

    @property
    def sessions(self) -> list[str]:
        """Labels of the sessions, sorted."""
        return sorted({row["session_id"] for row in self.units if row["session_id"]})

    def reasons(self) -> list[tuple[str, int]]:
        """Why units lack a usable scan, with the number of units, the most frequent first."""
        return Counter(row["reason"] for row in self.units if row["reason"]).most_common()


def survey(root: Path, threads: int = 1) -> Survey:
    """Read what a BIDS dataset holds.

    Parameters
    ----------
    root : Path
        Raw BIDS dataset, or QSIPrep/fMRIPrep derivatives.
    threads : int
        Processes that read headers.

    Raises
    ------
    DataError
        It is no BIDS dataset, or has no T1w.
    """
    manifest = listed_scans(root)
    table = root / "participants.tsv"
    participants = table if table.exists() else None
    units, needed = listed_units(manifest, participants, threads)
    known = read_participants(table) if participants else {}
    paired = [row for row in units if row["state"] == "paired"]
    studied = paired or [row for row in units if row["state"] == "t1w-only"]
    # Sessions may share a scan, which then counts once.
    dwi = {str(row["dwi"]): files_of_series(row) for row in paired}
    used = {row["t1w"] for row in units} | set(dwi)
    of_preprocessing = [row for row in manifest if row["path"] in used and row["description"] == "preproc"]
    return Survey(
        root=root,
        name=_name(root),
        units=units,
        t1s=[read_t1(path) for path in dict.fromkeys(row["t1w"] for row in units if row["t1w"])],
        series=[read_series(*files, b0_threshold=needed.b0_threshold) for files in dwi.values()],
        masks={
            "T1w": len({row["t1w"] for row in units if row["t1w_mask"]}),
            "dwi": len({row["dwi"] for row in paired if row["dwi_mask"]}),
        },
        preprocessed=Counter(str(row["suffix"]) for row in of_preprocessing),
        columns=tuple(dict.fromkeys(column for rows in known.values() for column in rows[0] if column)),
        phenotypes=find_phenotypes(known, dict.fromkeys(str(row["participant_id"]) for row in studied)),
        needed=needed,
    )


def listed_scans(root: Path) -> list[Row]:
    """List the scans of a BIDS dataset: rows of `m2m.cohort.index.COLUMNS`.

    Raises
    ------
    DataError
        It is no BIDS dataset, or has no T1w.
    """
    remedy = "give the folder that holds sub-*/anat/*_T1w.nii.gz and sub-*/dwi/*_dwi.nii.gz"
    if not root.is_dir():
        raise DataError("BIDS dataset is not a folder", file=root, remedy=remedy)
    if not any(path.is_dir() for path in root.glob("sub-*")):
        raise DataError("is no BIDS dataset: it has no folder sub-*", file=root, remedy=remedy)
    manifest = [dict.fromkeys(COLUMNS) | row for row in build_manifest(root, list_files(root))]
    if not any(row["suffix"] == "T1w" for row in manifest):
        raise DataError("BIDS dataset has no T1w", file=root, value=_counted(manifest), remedy=remedy)
    return manifest


def high_b0(row: Row) -> float | None:
    """Limit of b = 0 (s/mm2) that a series needs, a multiple of ten; None for any other scan.

    A series needs one whose lowest b-value is above the default, and near enough to be meant as b = 0. The volumes
    of its lowest b-value belong to it, as far as they differ by no more than the default.
    """
    if row["suffix"] != "dwi" or row.get("left_out"):
        return None
    table, _ = read_gradient_table(row["bval"], row["bvec"], row["path"] or "", None)
    default = Dti().b0_threshold_s_per_mm2
    if table is None or not default < table.bvals.min() <= FARTHEST_B0_S_PER_MM2:
        return None
    lowest = table.bvals[table.bvals <= table.bvals.min() + default]
    return 10.0 * math.ceil(lowest.max() / 10)


def listed_units(manifest: Sequence[Row], participants: Path | None, threads: int) -> tuple[list[Row], Needed]:
    """Units as a configuration lists them that drops no participant without need, and what it needs for that.

    Parameters
    ----------
    manifest : sequence of dict
        Rows of `m2m.cohort.index.COLUMNS`.
    participants : Path or None
        participants.tsv.
    threads : int
        Processes that read headers.
    """

    def listed(fit: Dti, across: bool = False) -> list[Row]:
        section = Cohort(check_voxels=False, t1w_of_other_session=across)
        return validate([*manifest], section, participants, threads, fit)[0]

    def with_state(units: Sequence[Row], state: str) -> set[str | None]:
        return {row["participant_id"] for row in units if row["state"] == state}

    fit, gained = Dti(), {"b0": 0, "sessions": 0}
    units = listed(fit)
    if highest := [b for row in manifest if (b := high_b0(row)) is not None]:
        other = Dti(b0_threshold_s_per_mm2=max(highest))
        found = listed(other)
        gained["b0"] = len(with_state(found, "paired")) - len(with_state(units, "paired"))
        if gained["b0"] > 0:
            fit, units = other, found
    if with_state(units, "dwi-only") & with_state(units, "t1w-only") - with_state(units, "paired"):
        found = listed(fit, across=True)
        gained["sessions"] = len(with_state(found, "paired")) - len(with_state(units, "paired"))
        units = found if gained["sessions"] > 0 else units
    return units, Needed(fit.b0_threshold_s_per_mm2, max(gained["b0"], 0), max(gained["sessions"], 0))


def _counted(manifest: list[Row]) -> str:
    """Count the scans of a dataset: ``0 T1w, 3 DWI``."""
    count = Counter(row["suffix"] for row in manifest)
    return f"{count['T1w']} T1w, {count['dwi']} DWI"


def _name(root: Path) -> str:
    """Name of a dataset, that of its folder where the description has none."""
    try:
        name = read_json(root / "dataset_description.json").get("Name")
    except (OSError, ValueError, AttributeError):
        name = None
    return name if isinstance(name, str) and name.strip() else root.resolve().name


def read_t1(path: str | Path) -> Anatomical:
    """Read voxel size and field of view from the header of a T1w that was checked."""
    image = cast(SpatialImage, nib.load(path))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    # World axis that each axis of the image runs along, as the common grid takes them.
    axes = nib.io_orientation(image.affine)[:, 0].astype(int)
    extent = np.zeros(3)
    extent[axes] = (np.array(image.shape[:3]) - 1) * spacing
    return Anatomical(_rounded(spacing), _rounded(extent))


def files_of_series(unit: Row) -> list[tuple[str, str, str]]:
    """Image, bval and bvec of a unit's series; of several that are joined, of each."""
    first = [unit["dwi"], unit["bval"], unit["bvec"]]
    return [(str(image), str(bval), str(bvec)) for image, bval, bvec in [first, *json.loads(unit["joined"] or "[]")]]


def read_series(
    *files: tuple[str | Path, str | Path, str | Path], b0_threshold: float = Dti().b0_threshold_s_per_mm2
) -> Series:
    """Read voxel size and shells of a diffusion series that was checked, or of several that are joined."""
    spacing = np.linalg.norm(cast(SpatialImage, nib.load(files[0][0])).affine[:3, :3], axis=0)
    tables = []
    for image, bval, bvec in files:
        table, problems = read_gradient_table(bval, bvec, image, None)
        if table is None:
            raise problems[0]
        tables.append(table)
    bvals, bvecs = np.concatenate([t.bvals for t in tables]), np.vstack([t.bvecs for t in tables])
    volumes, values = shells(bvals, b0_threshold), shell_values(bvals, b0_threshold)
    found = tuple((float(np.median(bvals[shell])), len(distinct_directions(bvecs[shell]))) for shell in volumes)
    tops = np.unique(values[values > 0])
    enough = (top for top in tops if determine_tensor(distinct_directions(bvecs[(values > 0) & (values <= top)])))
    return Series(_rounded(spacing), found, float(next(enough)))


def _rounded(lengths_mm: NDArray) -> tuple[float, ...]:
    """Lengths to a hundredth of a mm."""
    return tuple(float(length) for length in np.round(lengths_mm, 2))


def find_phenotypes(table: dict[str, list[Row]], participants: Iterable[str]) -> list[Phenotype]:
    """Find columns that could be predicted: numbers of many values, or classes of few.

    Parameters
    ----------
    table : dict of str to list of dict
        From `m2m.cohort.participants.read_participants`.
    participants : iterable of str
        Whose values count.

    Returns
    -------
    list of Phenotype
        In the order of the table. Columns without two different values, texts of many different
        values, and identifiers are left out.
    """
    rows = [table[name][0] for name in participants if name in table]
    columns = dict.fromkeys(column for row in rows for column in row if column and column not in NO_PHENOTYPES)
    found = []
    for column in columns:
        values = [value for row in rows if (value := row.get(column)) is not None]
        numbers = [value for value in values if number(value) is not None]
        # Some cells of a column of numbers may be none, like 90+.
        values = numbers if len(numbers) > len(values) / 2 else values
        if kind := _kind(column, values):
            found.append(Phenotype(column, kind, tuple(values)))
    return found


def _kind(column: str, values: Sequence[str]) -> str | None:
    """What a column is: a number, a class, or (None) neither."""
    different = set(values)
    repeated = len(different) < len(values)
    if len(different) < 2:
        return None
    if all(number(value) is not None for value in different):
        coded = repeated and len(different) <= MOST_CODES and all(float(value) % 1 == 0 for value in different)
        return "classification" if coded and column != "age" else "regression"
    return "classification" if repeated and len(different) <= MOST_CLASSES else None
