"""A map at low resolution, as a fast scan gives it: on its coarse grid, and as slices.

FA on the common grid has its own k-space cropped; FA of a diffusion series whose k-space was
cropped before the tensor fit is carried to the T1's space.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from m2m.diffusion.lowres import crop_kspace, enlarge, low_grid
from m2m.io.bids import files_of, low_ratio, low_root, slice_files, unit_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole, write_text
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, resample_inside, same_grid, save
from m2m.options.stage_flags import Root, Session, Subject
from m2m.structural.slices import PLANES, stack


def lower(fa: Volume, mask: Volume, like: Volume, t1_to_dwi: NDArray, ratio: int) -> Volume:
    """FA at low resolution, on the common grid's `lowres.low_grid`.

    Parameters
    ----------
    fa, mask : Volume
        On the common grid, or on that of a cropped series.
    like : Volume
        On the common grid.
    t1_to_dwi : ndarray, shape (4, 4)
        World mm to world mm, for a series.
    ratio : int

    Raises
    ------
    DataError
        Nothing of the map lies in the T1's field of view.
    """
    if same_grid(fa, like):
        low = crop_kspace(Volume(np.where(mask.data > 0, fa.data, 0), fa.affine), ratio)
    else:
        low, _ = resample_inside(fa, mask, *low_grid(like.affine, like.shape, ratio), t1_to_dwi)
    if not low.data.any():
        raise DataError(
            "the low-resolution map does not meet the T1's field of view",
            remedy="look at the cropped series' FA and at the registration",
        )
    return Volume(low.data.clip(0, 1), low.affine)


def main(
    root: Root,
    subject: Subject,
    low: Annotated[
        str, typer.Option(help="Kind: whose k-space is cropped, and by how much, e.g. dwi-2.")
    ],
    session: Session = None,
) -> None:
    """Make a map at low resolution, and its slices, enlarged to the common grid."""
    unit, below = unit_of(subject, session), low_root(root, low)
    own, at = files_of(unit, root), files_of(unit, below)
    if low.startswith("map"):
        made = own("fa"), own("target-mask"), own("brain"), [own("grid-status")]
    else:
        made = at("dwi-fa"), at("dwi-mask"), own("brain"), [at("dti-status")]
    record, slices = slice_files(below, unit, PLANES)
    lower_unit(
        unit, low_ratio(low), *made, own("grid-status"), at("low-fa"), record, **slices
    )  # fmt: skip


def lower_unit(
    unit: str,
    ratio: int,
    fa: Path,
    mask: Path,
    brain: Path,
    require: list[Path],
    grid_status: Path,
    out: Path,
    status: Path,
    axial: Path,
    coronal: Path,
    sagittal: Path,
) -> None:
    """Lower one unit's FA; bad data end in its status, with empty files."""
    outputs = {"axial": axial, "coronal": coronal, "sagittal": sagittal}
    with recorded("lower", unit, status, [out, *outputs.values()]) as content:
        require_ok(grid_status, *require)
        grid = read_json(grid_status)
        inside = load(brain)
        low = lower(load(fa), load(mask), inside, np.array(grid["t1_to_dwi"]), ratio)
        save(
            out, low, [fa, brain], Description="Fractional anisotropy, 0 to 1, at low resolution",
            Ratio=ratio,
        )  # fmt: skip
        data = np.where(inside.data > 0, enlarge(low, inside, ratio).data, 0)
        sha256 = hashlib.sha256()
        for plane in PLANES:
            array = stack({"low": data}, plane)
            sha256.update(array.tobytes())
            if grid["excluded"]:
                write_text(outputs[plane], "")
                continue
            with whole(outputs[plane]) as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
        content |= {"sha256": sha256.hexdigest(), "excluded": grid["excluded"], "ratio": ratio}
