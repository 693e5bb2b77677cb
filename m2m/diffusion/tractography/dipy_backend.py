"""Tracking with DIPY: EuDX, deterministic, probabilistic, in tensors, CSA or CSD.

DIPY's trackers expect directions along the voxel axes of the image, so directions are rotated from
world axes to these; seeds and streamlines are in world mm.

References
----------
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008;
Garyfallidis (2012), PhD thesis, University of Cambridge (EuDX);
Aganj et al. (2010), MRM 64:554, https://doi.org/10.1002/mrm.22365 (CSA);
Tournier et al. (2007), NeuroImage 35:1459, https://doi.org/10.1016/j.neuroimage.2007.02.016 (CSD)
"""

from typing import Any

import numpy as np
from dipy.core.gradients import GradientTable, gradient_table
from dipy.data import default_sphere
from dipy.direction.peaks import PeaksAndMetrics, peaks_from_model
from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel, response_from_mask_ssst
from dipy.reconst.dti import TensorFit
from dipy.reconst.shm import CsaOdfModel, sf_to_sh, sh_to_sf
from dipy.tracking.stopping_criterion import ThresholdStoppingCriterion
from dipy.tracking.tracker import deterministic_tracking, eudx_tracking, probabilistic_tracking
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray
from scipy import ndimage

from m2m.diffusion import tensors
from m2m.diffusion.tractography.shells import highest_shell
from m2m.diffusion.tractography.tracks import (
    Anatomy,
    Field,
    Tractogram,
    of_length,
    random_seeds,
    where_to_seed,
)
from m2m.io.errors import DataError
from m2m.options import Tractography

TRACKERS = {
    "eudx": eudx_tracking,
    "deterministic": deterministic_tracking,
    "probabilistic": probabilistic_tracking,
}
# Number of voxels as in Tournier et al. (2013), NMR Biomed 26:1775.
RESPONSE_VOXELS = 300
# Voxels at the brain's edge that are excluded: partial volume and motion raise their FA.
EDGE_VOXELS = 2
# Streamlines in DIPY's buffer, which has space for the longest possible ones.
BUFFERED = 4_000


def track(field: Field, options: Tractography, threads: int = 1, anatomy: Anatomy | None = None) -> Tractogram:
    """Track from each seed, forward and backward along the strongest local direction.

    The result does not depend on the number of threads.

    Parameters
    ----------
    field : Field
        Without a series, the tensor replaces the models csa and csd.
    options : Tractography
    threads : int
    anatomy : Anatomy, optional
        Ignored: this backend has no ACT.

    Returns
    -------
    Tractogram

    Raises
    ------
    DataError
        No voxel can be seeded, the model needs more directions, or no streamline is left.
    """
    seeded = where_to_seed(field.fa, field.mask, options.seed_fa)
    near = field.mask & ndimage.binary_dilation(field.fa > options.stop_fa)
    model = options.dipy.model if field.series is not None else "tensor"
    peaks = options.dipy.algorithm == "eudx"
    directions, strongest = _directions(field, near, model, options.dipy.sh_order, peaks)
    seeds = random_seeds(seeded, options.seeds_per_voxel, field.affine, options.seed)
    tracked = TRACKERS[options.dipy.algorithm](
        seeds,
        ThresholdStoppingCriterion(field.fa, options.stop_fa),
        field.affine,
        seed_directions=np.repeat(strongest[seeded], options.seeds_per_voxel, axis=0),
        step_size=options.step_mm,
        max_angle=options.max_angle_deg,
        min_len=0,
        max_len=int(np.ceil(options.length_mm[1] + options.step_mm)),
        random_seed=_seed(options.seed),
        nbr_threads=threads,
        seed_buffer_fraction=min(1.0, BUFFERED / len(seeds)),
        **directions,
    )
    streamlines = ArraySequence(points.astype(np.float32) for points in tracked)
    kept, n_long = of_length(streamlines, options.length_mm)
    # DIPY omits only streamlines that are longer than `max_len`.
    n_long += len(seeds) - len(streamlines)
    return Tractogram(
        streamlines[kept],
        n_seeds=len(seeds),
        seeded_mm3=float(seeded.sum()) * field.voxel_mm3,
        n_dropped_short=len(seeds) - int(kept.sum()) - n_long,
        n_dropped_long=n_long,
        model=model,
        algorithm=options.dipy.algorithm,
    )


def _seed(seed: int) -> int:
    """Seed for DIPY, which multiplies it by a position in voxels and uses 32 bits of the product."""
    # With a small seed, streamlines from close positions would share their random numbers.
    return int(np.random.default_rng(seed).integers(500_000, 1_000_000))


def _directions(
    field: Field, near: NDArray[np.bool_], model: str, sh_order: int, peaks: bool
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Local directions in voxel axes, as arguments of DIPY's trackers, and the strongest of each voxel.

    The arguments are peaks (EuDX) or the coefficients of a distribution; the strongest directions
    have the shape (X, Y, Z, 3).
    """
    if model == "tensor":
        return _of_tensor(field, near, peaks)
    data, gtab = _shell(field)
    order = _order(sh_order, int((gtab.bvals > 0).sum()), model)
    fitter = CsaOdfModel(gtab, order) if model == "csa" else _csd(data, gtab, field, order)
    if peaks:
        pam = peaks_from_model(fitter, data, default_sphere, 0.5, 25, mask=near, normalize_peaks=True, parallel=False)
        return {"pam": pam}, pam.peak_dirs[..., 0, :].astype(np.float64)
    coefficients = fitter.fit(data, mask=near).shm_coeff
    return {"sh": coefficients}, _strongest(coefficients, near, order)


def _of_tensor(field: Field, near: NDArray[np.bool_], peaks: bool) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """As `_directions`, from the tensors."""
    evals, evecs = np.linalg.eigh(
        tensors.to_matrix(tensors.rotate(field.tensor[near], tensors.voxel_axes(field.affine).T))
    )
    strongest = np.zeros((*near.shape, 3))
    strongest[near] = evecs[..., 2]
    if peaks:
        # V1 of each voxel is a vertex of the sphere, so that no direction is rounded to a vertex.
        pam = PeaksAndMetrics()
        pam.odf_vertices = strongest[near]
        pam.peak_indices = np.full((*near.shape, 1), -1, np.int32)
        pam.peak_indices[near, 0] = np.arange(near.sum())
        pam.peak_values = np.where(near, field.fa, 0)[..., None]
        return {"pam": pam}, strongest
    evals = np.maximum(evals[..., ::-1], tensors.LEAST_MM2_PER_S)
    parameters = np.concatenate([evals, evecs[..., ::-1].reshape(-1, 9)], axis=-1)
    odf = TensorFit(None, parameters).odf(default_sphere)
    coefficients = np.zeros((*near.shape, 45))
    coefficients[near] = sf_to_sh(odf, default_sphere, sh_order_max=8, legacy=True)
    return {"sh": coefficients}, strongest


def _strongest(coefficients: NDArray, near: NDArray[np.bool_], order: int) -> NDArray[np.float64]:
    """Direction of the largest value of each voxel's distribution, shape (X, Y, Z, 3)."""
    strongest = np.zeros((*near.shape, 3))
    values = sh_to_sf(coefficients[near], default_sphere, sh_order_max=order, legacy=True)
    strongest[near] = default_sphere.vertices[values.argmax(axis=-1)]
    return strongest


def _shell(field: Field) -> tuple[NDArray, GradientTable]:
    """Volumes of b = 0 and of the highest usable shell, and their gradients in voxel axes."""
    series = field.series
    assert series is not None
    chosen = (series.bvals == 0) | highest_shell(series.bvals, series.bvecs)
    bvecs = series.bvecs[chosen] @ tensors.voxel_axes(field.affine)
    gtab = gradient_table(series.bvals[chosen], bvecs=bvecs, b0_threshold=0)
    return series.volume.data[..., chosen], gtab


def _order(wanted: int, n_directions: int, model: str) -> int:
    """Largest order up to `wanted` that the directions determine.

    CSD has at least 4: its constraint compensates for missing directions.
    """
    orders = [n for n in (2, 4, 6, 8) if (n + 1) * (n + 2) // 2 <= n_directions]
    return min(wanted, max(orders[-1], 4 if model == "csd" else 2))


def _csd(data: NDArray, gtab: GradientTable, field: Field, order: int) -> ConstrainedSphericalDeconvModel:
    """CSD; the response is the mean tensor of the voxels with the highest FA, without the brain's edge."""
    inner = ndimage.binary_erosion(field.mask, iterations=EDGE_VOXELS, border_value=1)
    fa = np.where(inner, field.fa, 0)
    chosen = (fa >= np.sort(fa, axis=None)[-RESPONSE_VOXELS:][0]) & (fa > 0)
    if not chosen.any():
        raise DataError("has no voxel for the response of CSD", remedy="look at the brain mask and the FA map")
    response, _ = response_from_mask_ssst(gtab, data, chosen)
    return ConstrainedSphericalDeconvModel(gtab, response, sh_order_max=order)
