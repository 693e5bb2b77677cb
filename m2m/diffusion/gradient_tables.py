"""Gradient tables: FSL's and MRtrix3's files, and the axes that a table's directions are in.

FSL's files, and so BIDS, are along the image's axes, the first reversed in neurological storage. MRtrix3's
(``.b``) are in world axes, RAS+. QSIPrep writes FSL's files along the axes of its LPS+ images without
that reversal, as DIPY has them; a version or a user may have converted them.

References
----------
FSL, FDT user guide, "What conventions do the bvecs use?";
Jenkinson et al. (2012), NeuroImage 62:782, https://doi.org/10.1016/j.neuroimage.2011.09.015;
QSIPrep, issues 530 and 592, https://github.com/PennLINC/qsiprep;
Schilling et al. (2019), Magn Reson Imaging 58:82, https://doi.org/10.1016/j.mri.2019.01.018
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion.coherence import BETTER, DEVIATIONS, GIVEN, count_aligned_neighbours
from m2m.diffusion.tensors import voxel_axes
from m2m.io.bvalues import B0_S_PER_MM2, UNIT_TOLERANCE, WORLD_TABLE, volumes_of_fit
from m2m.io.errors import DataError, unreadable
from m2m.io.files import read_json
from m2m.io.tables import read_numbers
from m2m.io.volume import Volume

# Programs whose FSL files may lack the reversal of the first axis.
ALONG_IMAGE = "qsiprep"
# Voxels along each axis, around the brain's centre, that are enough to compare the coherence of fibres.
ENOUGH_VOXELS = 64
# A voxel with more than this part of the brightest signal is tissue.
TISSUE_PART = 0.2
UP_TO_S_PER_MM2 = 1500.0


@dataclass(frozen=True)
class Axes:
    """Axes of a table's directions.

    Attributes
    ----------
    matrix : ndarray, shape (3, 3)
        As columns in world coordinates, RAS+; orthonormal.
    name : str
        In words, and by what they were found.
    """

    matrix: NDArray[np.float64]
    name: str


def read_gradients(
    bval: str | Path, bvec: str | Path, b0_threshold: float = B0_S_PER_MM2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read b-values and directions, in the table's own axes (`axes_of`).

    Parameters
    ----------
    bval, bvec : path
        FSL's text files, or MRtrix3's table (``.b``) as either of them.
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Returns
    -------
    bvals : ndarray, shape (N,)
    bvecs : ndarray, shape (N, 3)
        Unit or zero vectors.

    Raises
    ------
    DataError
        Not numbers, wrong shape, a negative b-value, or a weighted volume without a unit vector.
    """
    bvals = _world_table(bval)[:, 3] if is_world_table(bval) else _read_numbers(bval).ravel()
    bvecs = _world_table(bvec)[:, :3].T if is_world_table(bvec) else _read_numbers(bvec)
    if bvecs.shape != (3, len(bvals)):
        raise DataError(
            f"must have three rows of {len(bvals)} numbers, one column per b-value",
            file=bvec,
            value=f"{bvecs.shape[0]} x {bvecs.shape[1]}",
            remedy="write x, y and z as rows, or export the gradients again",
        )
    if (bvals < 0).any():
        raise DataError("has a negative b-value", file=bval, value=bvals.min(), remedy="correct it")
    length = np.linalg.norm(bvecs, axis=0)
    off = (np.abs(length - 1) > UNIT_TOLERANCE) & (length > 0) & (bvals > b0_threshold)
    if off.any():
        raise DataError(
            "has directions that are not unit vectors",
            file=bvec,
            value=f"length {length[off][0]:.3f} in volume {np.flatnonzero(off)[0]}",
            remedy="normalise them, and put scaled b-values into the bval file",
        )
    return bvals, (bvecs / np.where(length > 0, length, 1)).T


def is_world_table(path: str | Path) -> bool:
    """Whether a file is MRtrix3's table, in world axes."""
    return Path(path).suffix == WORLD_TABLE


def _world_table(path: str | Path) -> NDArray[np.float64]:
    """Load a table of MRtrix3, shape (N, 4)."""
    table = _read_numbers(path)
    if table.shape[1] != 4:
        remedy = "export it again, by mrinfo -export_grad_mrtrix"
        raise DataError("must have four numbers in a row: x, y, z and b", file=path, value=table.shape, remedy=remedy)
    return table


def _read_numbers(path: str | Path) -> NDArray[np.float64]:
    """Load a matrix of finite numbers from a text file."""
    try:
        numbers = np.array(read_numbers(path), dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise unreadable(error, "cannot be read as numbers", path, "export it again") from error
    if not np.isfinite(numbers).all() or numbers.size == 0:
        raise DataError("holds NaN, infinity or nothing", file=path, remedy="export the gradients again")
    return numbers


def fsl_axes(affine: NDArray) -> NDArray[np.float64]:
    """Axes of FSL's b-vectors as columns in world coordinates, shape (3, 3), orthonormal.

    FSL's directions are along the voxel axes, but the first is reversed if the affine's determinant
    is positive (neurological storage).

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        If it has shear, the nearest rotation is used.

    References
    ----------
    FSL, FDT user guide, "What conventions do the bvecs use?";
    Jenkinson et al. (2012), NeuroImage 62:782, https://doi.org/10.1016/j.neuroimage.2011.09.015
    """
    axes = voxel_axes(affine)
    if np.linalg.det(axes) > 0:
        axes[:, 0] *= -1
    return axes


def axes_of(
    bvec: str | Path, series: Volume, bvals: NDArray, bvecs: NDArray, b0_threshold: float = B0_S_PER_MM2
) -> Axes:
    """Axes of a table's directions, by its format and by the program that wrote it.

    Parameters
    ----------
    bvec : path
        The table; a ``dataset_description.json`` above it names the program.
    series : Volume
        Signal, shape (X, Y, Z, N).
    bvals : ndarray, shape (N,)
        s/mm2.
    bvecs : ndarray, shape (N, 3)
        In the table's axes.
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Returns
    -------
    Axes
        Of a program that may have left out FSL's reversal, those in which fibres of neighbouring voxels are
        aligned; where this is not clear, the image's.
    """
    if is_world_table(bvec):
        return Axes(np.eye(3), "world, of MRtrix3's table")
    fsl, image = fsl_axes(series.affine), voxel_axes(series.affine)
    if np.linalg.det(image) < 0 or ALONG_IMAGE not in program_of(bvec):
        return Axes(fsl, "FSL's")
    by_fsl, by_image = _aligned_neighbours(series, bvals, bvecs, b0_threshold, (fsl, image))
    least, most = sorted((by_fsl, by_image))
    if most <= BETTER * least or most - least <= DEVIATIONS * np.sqrt(most + least):
        return Axes(image, "the image's, as QSIPrep's; coherence of fibres is not clear")
    named = Axes(fsl, "FSL's, by coherence of fibres"), Axes(image, "the image's, by coherence of fibres")
    return named[int(by_image > by_fsl)]


def program_of(path: str | Path) -> str:
    """Names of the programs that wrote a file's dataset, in lower case; empty where nothing names one."""
    for folder in Path(path).absolute().parents:
        if not (description := folder / "dataset_description.json").is_file():
            continue
        try:
            about = read_json(description)
            return " ".join(map(_name, [about.get("PipelineDescription"), *(about.get("GeneratedBy") or [])])).lower()
        except (OSError, ValueError, TypeError, AttributeError):
            return ""
    return ""


def _name(entry: Any) -> str:
    """Name in an entry of GeneratedBy."""
    return str(entry.get("Name", "")) if isinstance(entry, dict) else ""


def _aligned_neighbours(
    series: Volume, bvals: NDArray, bvecs: NDArray, b0_threshold: float, candidates: tuple[NDArray, ...]
) -> list[float]:
    """Count of aligned neighbours with a table's directions along each of some axes; FSL's fit is not needed."""
    used = volumes_of_fit(bvals, bvecs, b0_threshold, UP_TO_S_PER_MM2)
    if used is None:
        return [0.0] * len(candidates)
    data = series.data[..., used]
    weighted = bvals[used] > b0_threshold
    b0 = data[..., ~weighted].mean(axis=-1)
    box = _box(b0 > TISSUE_PART * np.percentile(b0, 99))
    fa, v1 = _quick_tensor(data[box], np.where(weighted, bvals[used], 0), bvecs[used])
    fa = np.where(b0[box] > TISSUE_PART * np.percentile(b0, 99), fa, 0)
    linear = np.asarray(series.affine)[:3, :3]
    return [count_aligned_neighbours(v1, fa, axes.T @ linear)[GIVEN] for axes in candidates]


def _box(tissue: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Part of the grid around the tissue's centre, of no more than `ENOUGH_VOXELS` along an axis."""
    centre = np.argwhere(tissue).mean(axis=0).astype(int) if tissue.any() else np.array(tissue.shape) // 2
    half = ENOUGH_VOXELS // 2
    return tuple(slice(max(0, c - half), c + half) for c in centre.tolist())


def _quick_tensor(data: NDArray, bvals: NDArray, bvecs: NDArray) -> tuple[NDArray, NDArray]:
    """FA and principal direction of a least-squares fit to the log-signal; FA is 0 where there is no tensor."""
    x, y, z = bvecs.T
    design = np.column_stack(
        [np.ones(len(bvals)), *(-bvals * g for g in (x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z))]
    )
    least = max(float(np.abs(data).max()) * 1e-4, 1e-30)
    d = np.log(np.maximum(data, least)) @ np.linalg.pinv(design).T  # (X, Y, Z, 7)
    tensor = d[..., [1, 4, 5, 4, 2, 6, 5, 6, 3]].reshape(*d.shape[:3], 3, 3)
    evals, evecs = np.linalg.eigh(tensor)
    evals = np.maximum(evals, 0)
    mean = evals.mean(axis=-1, keepdims=True)
    square = (evals**2).sum(axis=-1)
    fa = np.sqrt(1.5 * ((evals - mean) ** 2).sum(axis=-1) / np.where(square > 0, square, 1))
    return fa, evecs[..., 2]
