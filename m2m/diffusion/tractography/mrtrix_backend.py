"""Tracking with MRtrix3: iFOD2 and SD_STREAM in FODs, Tensor_Det in the series, FACT in tensors.

MRtrix3's images and gradient tables are in world axes (scanner axes), as all directions here.

References
----------
Tournier et al. (2019), NeuroImage 202:116137, https://doi.org/10.1016/j.neuroimage.2019.116137
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import density, mrtrix3, tensors
from m2m.diffusion.dwi import Dwi
from m2m.diffusion.tractography.shells import highest_shell
from m2m.diffusion.tractography.tracks import Anatomy, Field, Tractogram, of_length, where_to_seed
from m2m.io import volume
from m2m.io.errors import DataError
from m2m.io.programs import Call, ProgramError
from m2m.io.volume import Volume
from m2m.options import Tractography
from m2m.options.trackers import FROM_T1


@dataclass(frozen=True)
class Source:
    """Input of `tckgen`, and its criteria to end a streamline.

    Attributes
    ----------
    image : path
        FODs, series or directions.
    algorithm, model : str
    mask : ndarray of bool, shape (X, Y, Z)
        Streamlines end where they leave it.
    cutoff : float
        Of `mrtrix3.tckgen`.
    grad : path or None
        Gradient table, if `image` is a series.
    """

    image: Path
    algorithm: Literal["iFOD2", "SD_STREAM", "Tensor_Det", "FACT"]
    model: str
    mask: NDArray[np.bool_]
    cutoff: float
    grad: Path | None = None


def track(
    field: Field,
    options: Tractography,
    threads: int = 1,
    anatomy: Anatomy | None = None,
) -> Tractogram:
    """Track from random positions in each seeded voxel; `tckgen` runs in one thread, reproducibly.

    Parameters
    ----------
    field : Field
        Without a series, the algorithm is FACT along V1.
    options : Tractography
    threads : int
        Of response and FOD estimation.
    anatomy : Anatomy, optional
        For ACT: a 5TT image, or the T1 that ``5ttgen-fsl`` segments.

    Returns
    -------
    Tractogram

    Raises
    ------
    DataError
        No voxel can be seeded, no streamline is left, or a program is missing or failed; the message
        has the last line of the program's output.
    """
    seeded = where_to_seed(field.fa, field.mask, options.seed_fa)
    with tempfile.TemporaryDirectory(prefix="m2m-tracks-") as name, _programs_as_findings():
        scratch = Path(name)
        calls: list[Call] = []
        anatomy = anatomy or Anatomy()
        act = anatomy.five_tissue
        if field.series is None:
            act = None
        elif options.mrtrix3.five_tissue == FROM_T1:
            act = _five_tissues(anatomy.t1w, scratch, threads, calls)
        source = _source(field, options, scratch, threads, calls, act is not None)
        tracks = scratch / "tracks.tck"
        calls.append(_tckgen(source, seeded, field.affine, options, scratch, tracks, act))
        streamlines = nib.streamlines.load(tracks).streamlines
        kept, n_long = of_length(streamlines, options.length_mm)
        streamlines = streamlines[kept]
        weights = mu = None
        if options.mrtrix3.sift2 and source.model == "fod":
            weights, mu = _sift2(streamlines, source.image, scratch, act, calls)
    n_seeds = int(seeded.sum()) * options.seeds_per_voxel
    return Tractogram(
        streamlines,
        n_seeds=n_seeds,
        seeded_mm3=float(seeded.sum()) * field.voxel_mm3,
        n_dropped_short=n_seeds - len(streamlines) - n_long,
        n_dropped_long=n_long,
        model=source.model,
        algorithm=source.algorithm,
        weights=weights,
        sift2_mu=mu,
        act=act is not None,
        calls=tuple(calls),
    )


@contextmanager
def _programs_as_findings() -> Iterator[None]:
    """Raise a program's failure as a finding about the participant, with the last line of its output."""
    try:
        yield
    except ProgramError as error:
        raise DataError(
            str(error).splitlines()[0],
            remedy="read the log; look at the series, or choose another tractography.backend",
        ) from error


def _save(path: Path, data: NDArray, affine: NDArray, dtype: type = np.float32) -> Path:
    """Save an image for MRtrix3."""
    volume.save(path, Volume(data, affine), dtype=dtype)
    return path


def _save_series(series: Dwi, affine: NDArray, chosen: NDArray[np.bool_], scratch: Path) -> tuple[Path, Path]:
    """Save volumes of the series and their gradient table: x y z b in rows, world axes."""
    image = _save(scratch / "dwi.nii", series.volume.data[..., chosen], affine)
    grad = scratch / "dwi.b"
    np.savetxt(grad, np.column_stack([series.bvecs, series.bvals])[chosen], fmt="%.8g")
    return image, grad


def _source(
    field: Field,
    options: Tractography,
    scratch: Path,
    threads: int,
    calls: list[Call],
    act: bool,
) -> Source:
    """Prepare the input of `tckgen`; the programs that run for it are added to `calls`."""
    algorithm = options.mrtrix3.algorithm
    if field.series is None:
        maps = tensors.measures(field.tensor)
        v1 = np.where(field.mask[..., None], maps.v1 * maps.fa[..., None], 0)
        image = _save(scratch / "v1.nii", v1, field.affine)
        return Source(image, "FACT", "tensor", field.mask, options.stop_fa)
    if algorithm == "Tensor_Det":
        assert field.fitted is not None
        image, grad = _save_series(field.series, field.affine, field.fitted, scratch)
        return Source(image, algorithm, "tensor", field.mask, options.stop_fa, grad)
    fod = _fod(field, options.mrtrix3.response, scratch, threads, calls)
    # ACT ends streamlines by tissue; a mask by FA would end them before they reach the cortex.
    mask = field.mask if act else field.mask & (field.fa > options.stop_fa)
    return Source(fod, algorithm, "fod", mask, options.mrtrix3.fod_cutoff)


def _fod(
    field: Field, response: Literal["tournier", "dhollander"], scratch: Path, threads: int, calls: list[Call]
) -> Path:
    """Fibre orientation distributions: of the highest shell, or multi-tissue of all shells."""
    series = field.series
    assert series is not None
    several = response == "dhollander"
    if several:
        chosen = np.ones(len(series.bvals), np.bool_)
    else:
        chosen = (series.bvals == 0) | highest_shell(series.bvals, series.bvecs)
    image, grad = _save_series(series, field.affine, chosen, scratch)
    mask = _save(scratch / "brain.nii", field.mask, field.affine, np.uint8)
    tissues = ("wm", "gm", "csf") if several else ("wm",)
    responses = [scratch / f"{tissue}.txt" for tissue in tissues]
    folder = scratch / "dwi2response"
    call = mrtrix3.dwi2response(
        image, responses, algorithm=response, grad=grad, mask=mask, scratch=folder, threads=threads
    )
    calls.append(call)
    pairs = [(path, path.with_suffix(".mif")) for path in responses]
    # b = 0 and one shell distinguish only two tissues: white matter and CSF.
    if several and len(np.loadtxt(responses[0], ndmin=2)) < 3:
        pairs = [pairs[0], pairs[2]]
    algorithm: Literal["msmt_csd", "csd"] = "msmt_csd" if several else "csd"
    calls.append(mrtrix3.dwi2fod(image, pairs, algorithm=algorithm, grad=grad, mask=mask, threads=threads))
    return pairs[0][1]


def _tckgen(
    source: Source,
    seeded: NDArray[np.bool_],
    affine: NDArray,
    options: Tractography,
    scratch: Path,
    tracks: Path,
    act: Path | None,
) -> Call:
    """Run tckgen without limits of length, so that too short and too long streamlines can be counted."""
    per_voxel = source.algorithm in ("iFOD2", "Tensor_Det")
    n_voxels = 1 if per_voxel else int(seeded.sum())
    return mrtrix3.tckgen(
        source.image,
        tracks,
        algorithm=source.algorithm,
        seeds=_save(scratch / "seeds.nii", seeded, affine, np.uint8),
        n_seeds=options.seeds_per_voxel * n_voxels,
        per_voxel=per_voxel,
        mask=_save(scratch / "mask.nii", source.mask, affine, np.uint8),
        cutoff=source.cutoff,
        angle_deg=options.max_angle_deg,
        step_mm=options.step_mm,
        # A streamline that is truncated at this length is still too long.
        length_mm=(0.0, options.length_mm[1] + 2 * options.step_mm),
        seed=options.seed,
        grad=source.grad,
        act=act,
    )


def _five_tissues(t1w: Path | None, scratch: Path, threads: int, calls: list[Call]) -> Path:
    """Segment the T1 by FSL."""
    if t1w is None:
        raise DataError(
            "has no T1, and tractography.mrtrix3.five_tissue is 5ttgen-fsl",
            remedy="add the T1 to the dataset, or remove five_tissue from the configuration",
        )
    out = scratch / "5tt.mif"
    calls.append(mrtrix3.five_tissues(t1w, out, scratch=scratch / "5ttgen", threads=threads))
    return out


def _sift2(
    streamlines: nib.streamlines.ArraySequence,
    fod: Path,
    scratch: Path,
    act: Path | None,
    calls: list[Call],
) -> tuple[NDArray[np.float64], float]:
    """Weights of the streamlines, and the proportionality coefficient."""
    tracks, weights, mu = (scratch / name for name in ("kept.tck", "weights.txt", "mu.txt"))
    density.save_tractogram(tracks, streamlines)
    calls.append(mrtrix3.tcksift2(tracks, fod, weights, mu=mu, act=act))
    return np.loadtxt(weights, ndmin=1), float(np.loadtxt(mu))
