"""Simulation of a map at low resolution, as of a fast scan: on its coarse grid, and as slices.

It comes from the cropped k-space of the FA map on the common grid, or from a diffusion series whose
k-space was cropped before the tensor fit; the FA of the latter is resampled to the T1's space.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from m2m.diffusion.lowres import crop_kspace, enlarge, low_res_grid
from m2m.io.bids import files_of, low_res_factor, low_res_root, slice_files, unit_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_text
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, fitted_as, load, resample_inside, same_grid, save
from m2m.options.stage_flags import Root, Session, Subject
from m2m.structural.slices import PLANES, write_slices


def reduce_resolution(fa: Volume, mask: Volume, like: Volume, t1_to_dwi: NDArray, factor: int) -> Volume:
    """Compute FA at low resolution, on the `lowres.low_res_grid` of the common grid.

    Parameters
    ----------
    fa, mask : Volume
        On the common grid, or on that of a cropped series.
    like : Volume
        On the common grid.
    t1_to_dwi : ndarray, shape (4, 4)
        T1 world mm to DWI world mm, for a series.
    factor : int

    Returns
    -------
    Volume
        Limited to 0..1.

    Raises
    ------
    DataError
        No part of the map is in the T1's field of view.
    """
    if same_grid(fa, like):
        low_res = crop_kspace(Volume(np.where(in_mask(mask.data), fa.data, 0), fa.affine), factor)
    else:
        affine, shape = low_res_grid(like.affine, like.shape, factor)
        low_res, _ = resample_inside(fa, mask, affine, shape, t1_to_dwi)
    if not low_res.data.any():
        raise DataError(
            "the low-resolution map does not overlap the T1's field of view",
            remedy="look at the cropped series' FA and at the registration",
        )
    return Volume(low_res.data.clip(0, 1), low_res.affine)


def main(
    root: Root,
    subject: Subject,
    low_res: Annotated[str, typer.Option(help="Kind: whose k-space is cropped, and by how much, e.g. dwi-2.")],
    session: Session = None,
) -> None:
    """Make a map at low resolution, and its slices, enlarged to the common grid."""
    unit, folder = unit_of(subject, session), low_res_root(root, low_res)
    own, at = files_of(unit, root), files_of(unit, folder)
    if low_res.startswith("map"):
        fa, mask, status = own("fa"), own("target-mask"), own("grid-status")
    else:
        fa, mask, status = at("dwi-fa"), at("dwi-mask"), at("dti-status")
    record, slices = slice_files(folder, unit, PLANES)
    simulate_unit(
        unit,
        low_res_factor(low_res),
        fa,
        mask,
        own("brain"),
        [status],
        own("grid-status"),
        at("low-res-fa"),
        record,
        axial=slices["axial"],
        coronal=slices["coronal"],
        sagittal=slices["sagittal"],
    )


def simulate_unit(
    unit: str,
    factor: int,
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
    """Simulate one unit's FA at low resolution; bad data end in its status, with empty files.

    Parameters
    ----------
    unit : str
    factor : int
    fa, mask : path
        Map and its mask, on the common grid or on that of a cropped series.
    brain : path
        On the common grid.
    require : list of path
        Statuses of earlier stages, which must be ok.
    grid_status : path
        Of the stage `grid`, with the registration.
    out, status : path
        Map at low resolution and JSON, written.
    axial, coronal, sagittal : path
        Slices of the enlarged map, written.
    """
    outputs = {"axial": axial, "coronal": coronal, "sagittal": sagittal}
    with recorded("simulate-low-res", unit, status, [out, *outputs.values()]) as content:
        require_ok(grid_status, *require)
        grid = read_json(grid_status)
        inside = load(brain)
        low_res = reduce_resolution(load(fa), load(mask), inside, np.array(grid["t1_to_dwi"]), factor)
        about = MODALITIES["fa"].sidecar() | fitted_as(fa)
        about["Description"] += ", at low resolution"
        save(out, low_res, [fa, brain], Ratio=factor, **about)
        data = np.where(in_mask(inside.data), enlarge(low_res, inside, factor).data, 0)
        content |= {"excluded": grid["excluded"], "factor": factor}
        if grid["excluded"]:
            for path in outputs.values():
                write_text(path, "")
        else:
            content |= write_slices({"low": data}, outputs)
