"""Two T1s of a participant and session: how near the synthetic maps of both are.

Anatomy and microstructure are the same in both, so what differs comes from scanner noise, position, brain extraction
and registration. A map that repeats well may still be far from what would be measured.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from m2m.cohort.choice import choose_scan, contrast_agent, path_of
from m2m.cohort.describe import describe
from m2m.cohort.gradients import DEFAULT_FIT
from m2m.cohort.scans import check_scans
from m2m.cohort.spellings import Row
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metrics import mean_absolute_error, mean_error, pearson
from m2m.io.bids import is_unit, unit_folder
from m2m.io.errors import DataError, unexpected
from m2m.io.overwriting import require_outside
from m2m.io.tables import write_table
from m2m.io.volume import Volume, coarsen, load, resample_inside
from m2m.options import Cohort
from m2m.structural.register import align, rotation_deg
from m2m.translate.folder import listed_t1s, units_of
from m2m.translate.native import require_model_of_t1, translate_t1
from m2m.translate.outputs import default_outputs, map_named_after
from m2m.translate.predict import Network, Record, Tensors

TABLE = "repeats.tsv"
NUMBERS = ("pearson", "mae", "bias", "sd_within", "n_voxels", "rotation_deg", "shift_mm")
COLUMNS = ("unit", "first", "second", *NUMBERS, "problem")


class Translated(NamedTuple):
    """A T1 and its synthetic map, on its voxels."""

    t1: Path
    image: Path

    def brain(self) -> tuple[Volume, Volume, Volume]:
        """T1 without what is not brain, map, and where the map is not 0."""
        t1, image = load(self.t1), load(self.image)
        inside = np.any(image.data.reshape(*image.shape, -1) != 0, axis=-1)
        return Volume(np.where(inside, t1.data, 0), t1.affine), image, Volume(inside, t1.affine)


def repeated_t1s(root: Path) -> Iterator[tuple[str, list[Row]]]:
    """Units of a BIDS folder with several T1s that can be used, all with or all without contrast agent.

    Parameters
    ----------
    root : Path

    Yields
    ------
    unit : str
    rows : list of dict
        Rows of the manifest, two or more: first the T1 that the workflow takes, then the others by path.
    """
    for unit, rows in units_of(root, listed_t1s(root)):
        checked = check_scans(rows, Cohort())
        first = choose_scan(unit, "T1w", rows, checked, DEFAULT_FIT).row
        if first is None or not is_unit(unit):
            continue
        agent = bool(contrast_agent(first))
        others = [row for row in rows if row is not first and not checked[path_of(row)].problems]
        others = [row for row in others if bool(contrast_agent(row)) == agent]
        if others:
            yield unit, [first, *sorted(others, key=path_of)]


def compare_repeat(first: Translated, second: Translated, target: str, spacing_mm: float) -> dict[str, float]:
    """Compare the maps of two T1s, aligned rigidly by the T1s, where both have a brain.

    Parameters
    ----------
    first, second : Translated
    target : str
        Modality of the maps.
    spacing_mm : float
        Voxel size of the comparison.

    Returns
    -------
    dict
        pearson, mae, bias (second minus first) and sd_within, the standard deviation of one map about the mean of many,
        of the image that the evaluation compares (`m2m.evaluate.measured_maps`); n_voxels; rotation_deg and
        shift_mm (of the brain's centre), how the head lies.
    """
    (t1, image, brain), (other_t1, other_image, other_brain) = first.brain(), second.brain()
    static = coarsen(t1, spacing_mm)
    here, inside = resample_inside(image, brain, static.affine, static.shape)
    transform = align(static, other_t1, inside.data).transform
    there, covered = resample_inside(other_image, other_brain, static.affine, static.shape, transform)
    both = inside.data & covered.data
    if not both.any():
        raise DataError("the brains of both T1s do not overlap", file=second.t1, remedy="check both affines")
    a, b = (compared(target, volume.data).image for volume in (here, there))
    centre = static.affine @ [*np.argwhere(inside.data).mean(0), 1]
    return {
        "pearson": pearson(a[both], b[both]),
        "mae": mean_absolute_error(a, b, both),
        "bias": mean_error(a, b, both),
        "sd_within": float(np.sqrt(np.mean((a[both].astype(np.float64) - b[both]) ** 2) / 2)),
        "n_voxels": int(both.sum()),
        "rotation_deg": rotation_deg(transform),
        "shift_mm": float(np.linalg.norm(transform @ centre - centre)),
    }


class Model(NamedTuple):
    """Weights as they were read, their file, and how the network is run."""

    tensors: Tensors
    record: Record
    path: Path
    network: Network

    def translate(self, row: Row, folder: Path) -> Translated:
        """Translate a T1, a row of the manifest, into a folder."""
        t1, mask = Path(path_of(row)), Path(row["mask"]) if row["mask"] else None
        image = folder / map_named_after(t1, self.record["target"]).name
        sources = [path for path in (t1, mask, self.path) if path]
        translate_t1(t1, mask, self.tensors, self.record, self.network, default_outputs(image), sources)
        return Translated(t1, image)


def rows_of_unit(unit: str, t1s: list[Row], out: Path, model: Model) -> Iterator[dict[str, object]]:
    """Translate every T1 of a unit, and compare each further one with the first; a failure is a problem of its row."""
    folder, first = out / unit_folder(unit) / "dwi", None
    about = model.record["target"], model.record["spacing_mm"]
    for row in t1s[1:]:
        entry: dict[str, object] = {"unit": unit, "first": path_of(t1s[0]), "second": path_of(row)}
        try:
            first = first or model.translate(t1s[0], folder)
            numbers = compare_repeat(first, model.translate(row, folder), *about)
            entry |= {key: value if key == "n_voxels" else float(f"{value:.5g}") for key, value in numbers.items()}
        except DataError as error:
            entry["problem"] = str(error)
        except ModuleNotFoundError:  # a missing library is missing for all
            raise
        except Exception as error:  # one participant's file must not stop the other participants
            entry["problem"] = str(unexpected(error, path_of(row)))
        yield entry


def translate_repeats(source: Path, out: Path, model: Model) -> tuple[int, int]:
    """Translate all T1s of participants who have several in a session, and compare their maps in `TABLE`.

    Parameters
    ----------
    source : Path
        BIDS folder.
    out : Path
        Folder of a derivative dataset, with the table.
    model : Model

    Returns
    -------
    done, failed : int
        Numbers of T1s after the first one of a unit: compared with it, and not.

    Raises
    ------
    DataError
        The model does not start from a T1, no participant has two T1s in a session, or `out` lies in `source`.
    """
    require_model_of_t1(model.record)
    require_outside(out, source)
    units = list(repeated_t1s(source))
    if not units:
        raise DataError("no participant has two T1s in a session that can be used", file=source)
    describe(out, str(source), out.name, TABLE)
    rows = [row for unit, t1s in tqdm(units, disable=None) for row in rows_of_unit(unit, t1s, out, model)]
    write_table(out / TABLE, rows, COLUMNS)
    failed = sum("problem" in row for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} repeated T1s compared, {failed} not: see {out / TABLE}")
    return len(rows) - failed, failed
