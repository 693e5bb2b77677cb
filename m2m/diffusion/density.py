"""Streamlines on disk and their density: the number that crosses each voxel.

Streamlines are points in world mm, RAS+, of the same space as the affine that is given with them.

References
----------
Calamante et al. (2010), NeuroImage 53:1233, https://doi.org/10.1016/j.neuroimage.2010.07.024
(track-density imaging); Garyfallidis et al. (2014), Front Neuroinform 8:8,
https://doi.org/10.3389/fninf.2014.00008; Tournier et al. (2019), NeuroImage 202:116137,
https://doi.org/10.1016/j.neuroimage.2019.116137
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from dipy.tracking.streamline import transform_streamlines
from dipy.tracking.utils import density_map
from nibabel.streamlines import ArraySequence
from nibabel.streamlines.tractogram_file import DataError as TractogramError
from nibabel.streamlines.tractogram_file import HeaderError
from numpy.typing import NDArray

from m2m.diffusion import mrtrix3
from m2m.diffusion.trx import read_trx, write_trx
from m2m.io import volume
from m2m.io.errors import DataError, unreadable
from m2m.io.files import whole
from m2m.io.volume import Volume

# Largest distance between points of a streamline, in voxels, as in tckmap.
STEP_PER_VOXEL = 1 / 3
# Number of streamlines that are processed together.
CHUNK = 10_000
# Extensions of files of streamlines.
FORMATS = (".trx", ".tck")


def tractogram_file(path: str | Path) -> Path:
    """The file of a tractogram in whichever format it was written: `path`, or its name with the other extension."""
    path = Path(path)
    formats = (path, *(path.with_suffix(suffix) for suffix in FORMATS))
    return next((file for file in formats if file.exists()), path)


def load_tractogram(path: str | Path) -> ArraySequence:
    """Load the streamlines of a `tractogram_file`: points in world mm, RAS+, shape (N, 3) each.

    Raises
    ------
    DataError
        The file is missing, empty or broken, or holds no streamline or points that are not finite.
    """
    path = tractogram_file(path)
    try:
        streamlines = read_trx(path) if path.suffix == ".trx" else nib.streamlines.load(path).streamlines
    except (OSError, EOFError, ValueError, TractogramError, HeaderError) as error:
        raise unreadable(error, "cannot be read as streamlines", path, "track again") from error
    if len(streamlines) == 0:
        raise DataError("holds no streamline", file=path, remedy="track again")
    if not np.isfinite(streamlines.get_data()).all():
        raise DataError("has points that are NaN or infinite", file=path, remedy="track again")
    return streamlines


def save_tractogram(
    path: str | Path,
    streamlines: ArraySequence,
    affine: NDArray | None = None,
    shape: tuple[int, ...] = (1, 1, 1),
) -> None:
    """Save streamlines in world mm, RAS+, as ``.trx`` or ``.tck``; the file is complete or does not exist.

    Parameters
    ----------
    path : path
        Its extension chooses the format.
    streamlines : ArraySequence
    affine : ndarray, shape (4, 4), optional
        Of the image that they were tracked in, which TRX names. Default: the identity.
    shape : tuple of int
        Of that image.
    """
    if Path(path).suffix == ".trx":
        write_trx(path, streamlines, np.eye(4) if affine is None else affine, shape)
        return
    tractogram = nib.streamlines.Tractogram(streamlines, affine_to_rasmm=np.eye(4))
    with whole(path) as temporary:
        nib.streamlines.TckFile(tractogram).save(str(temporary))


def move(streamlines: ArraySequence, transform: NDArray) -> ArraySequence:
    """Transform streamlines by a matrix, shape (4, 4), from their world mm to those of another space."""
    return transform_streamlines(streamlines, np.asarray(transform, np.float64))


def count_map(streamlines: ArraySequence, affine: NDArray, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Count the streamlines that cross each voxel, each once.

    Between two points a streamline is straight; it is sampled at distances of at most
    `STEP_PER_VOXEL`. Points outside the grid are ignored.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm.
    affine : ndarray, shape (4, 4)
        Of the grid, voxel indices to the same world mm.
    shape : (int, int, int)
        Of the grid.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    # Points outside the grid are counted in a border, which is removed.
    padded = np.array(shape) + 2
    to_padded = np.linalg.inv(affine)
    to_padded[:3, 3] += 1
    parts = parts_of_a_step(streamlines, affine)
    count = np.zeros(padded, np.int32)
    for points, steps, lengths in _chunks(streamlines):
        # (points, parts, 3): each point, and the samples between it and the next.
        samples = points[:, None] + steps[:, None] * (np.arange(parts) / parts)[:, None]
        voxels = nib.affines.apply_affine(to_padded, samples.reshape(-1, 3)).clip(0, padded - 1)
        lines = np.split(voxels, parts * np.cumsum(lengths)[:-1])
        count += density_map(lines, np.eye(4), padded).astype(np.int32)
    return count[1:-1, 1:-1, 1:-1]


def parts_of_a_step(streamlines: ArraySequence, affine: NDArray) -> int:
    """Number of parts of each step, so that no part is longer than `STEP_PER_VOXEL`."""
    squares = ((steps**2).sum(axis=1).max(initial=0.0) for _, steps, _ in _chunks(streamlines))
    allowed = STEP_PER_VOXEL * nib.affines.voxel_sizes(affine).min()
    return max(1, int(np.ceil(max(squares, default=0.0) ** 0.5 / allowed - 1e-3)))


def _chunks(streamlines: ArraySequence) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield points (N, 3), steps to the next (0 at a streamline's end) and numbers of points, in chunks."""
    for start in range(0, len(streamlines), CHUNK):
        chunk = streamlines[start : start + CHUNK]
        points = chunk.get_data().astype(np.float64)
        lengths = np.array([len(line) for line in chunk])
        steps = np.diff(points, axis=0, append=points[-1:])
        steps[np.cumsum(lengths) - 1] = 0
        yield points, steps, lengths


def count_by_tckmap(
    streamlines: ArraySequence, affine: NDArray, shape: tuple[int, int, int], threads: int = 1
) -> NDArray[np.int32]:
    """Count the streamlines that cross each voxel by MRtrix3's tckmap.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm.
    affine : ndarray, shape (4, 4)
        Of the grid, voxel indices to the same world mm.
    shape : (int, int, int)
        Of the grid.
    threads : int

    Returns
    -------
    ndarray, shape (X, Y, Z)

    Raises
    ------
    ProgramError
        tckmap is not installed or failed.
    """
    with tempfile.TemporaryDirectory(prefix="m2m-tckmap-") as scratch:
        tracks, template, out = (Path(scratch, n) for n in ("a.tck", "template.nii", "out.nii"))
        save_tractogram(tracks, streamlines)
        volume.save(template, Volume(np.zeros(shape, np.uint8), affine), dtype=np.uint8)
        upsample = parts_of_a_step(streamlines, affine)
        mrtrix3.tckmap(tracks, out, template=template, upsample=upsample, threads=threads)
        return volume.load(out).data.round().astype(np.int32)


def normalised(count: NDArray, n_seeds: int, seeded_mm3: float, affine: NDArray) -> NDArray[np.float32]:
    """Tract density: streamlines per voxel, divided by the number of seeds per voxel volume.

    It is comparable between grids of different voxel sizes and runs with different numbers of seeds.

    Parameters
    ----------
    count : ndarray, shape (X, Y, Z)
    n_seeds : int
        Seeds of the whole tractogram.
    seeded_mm3 : float
        Volume of the voxels with seeds.
    affine : ndarray, shape (4, 4)
        Of the grid of `count`.

    Returns
    -------
    ndarray, shape (X, Y, Z)

    Raises
    ------
    ValueError
        There is no seed or no seeded volume.
    """
    if n_seeds <= 0 or seeded_mm3 <= 0:
        raise ValueError(f"{n_seeds} seeds in {seeded_mm3} mm3 give no density")
    voxel_mm3 = float(np.prod(nib.affines.voxel_sizes(affine)))
    return (count / (n_seeds / seeded_mm3 * voxel_mm3)).astype(np.float32)
