"""A participant's brain on a grid: tissue fractions, fascicles, and the signals of both scans."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.diffusion.tensors import measures
from m2m.options import Phantom, Simulation
from m2m.phantom import anatomy, signal
from m2m.phantom.anatomy import CSF, GREY, WHITE, Template
from m2m.phantom.bundles import BUNDLES, locate
from m2m.phantom.individuals import Drawn, Individual, stream
from m2m.phantom.shape import Shape, flow, growth_velocity, random_velocity

FASCICLES = 3
MIN_WHITE = 0.02
# Weight of the radial fibres; that of a bundle is 1 on its strands.
RADIAL_WEIGHT = 0.2
# Mean diffusivity in mm2/s and signal without diffusion weighting, relative to white matter.
MD = {WHITE: 0.75e-3, GREY: 0.85e-3, CSF: 3.0e-3}
S0 = {WHITE: 1.0, GREY: 1.2, CSF: 2.2}
GREY_FA = 0.10
T1_INTENSITY = {WHITE: 0.88, GREY: 0.62, CSF: 0.22}
T1_PER_MYELIN = 0.8
BIAS_SD = 0.10
# Standard deviation of the Gaussian that smooths the distortion of echo-planar images.
DISTORTION_SIGMA_MM = 20.0
# A voxel belongs to a bundle's region where the bundle's weight and the white matter's fraction are
# above these.
REGION_WEIGHT, REGION_WHITE = 0.5, 0.5


@dataclass(frozen=True)
class Fascicles:
    """Up to three bundles of fibres in each of N white voxels.

    Attributes
    ----------
    fractions : ndarray, shape (N, 3)
        Sum 1.
    kinds : ndarray of int, shape (N, 3)
        Index of the bundle; the number of bundles for radial fibres.
    axes : ndarray, shape (N, 3, 3)
        Unit vectors in MNI axes: [voxel, fascicle, xyz].
    bundle : ndarray of int, shape (N,)
        Index of the bundle with the largest weight; radial fibres are not considered.
    weight : ndarray, shape (N,)
        Weight of that bundle: 1 on a strand, 0 where no bundle passes.
    """

    fractions: NDArray[np.float32]
    kinds: NDArray[np.intp]
    axes: NDArray[np.float32]
    bundle: NDArray[np.intp]
    weight: NDArray[np.float32]


def participant_shape(individual: Individual, template: Template, options: Phantom) -> Shape:
    """Draw a participant's deformation of the template: folds, bundles and size of the ventricles.

    Parameters
    ----------
    individual : Individual
    template : Template
    options : Phantom

    Returns
    -------
    Shape
        From the affinely normalised brain to MNI152.
    """
    step = anatomy.COARSE_MM
    rng = stream(options.seed, individual.label, "shape")
    grid = template.radial.shape[1:]
    velocity = random_velocity(rng, grid, step, options.deformation_mm)
    fluid = ndimage.uniform_filter(template.ventricles.astype(np.float32), step + 1)
    velocity += growth_velocity(fluid[::step, ::step, ::step], step, np.log(individual.ventricles))
    return flow(velocity, template.coarse_affine)


def radial_axes(points: NDArray, template: Template) -> NDArray[np.float32]:
    """Unit vectors from white matter to cortex at MNI points, shape (N, 3)."""
    radial = anatomy.sample(template.radial, template.coarse_affine, points)
    length = np.linalg.norm(radial, axis=1, keepdims=True)
    upwards = np.broadcast_to(np.array([0, 0, 1], dtype=np.float32), radial.shape)  # far from white matter
    return np.divide(radial, length, out=upwards.copy(), where=length > 0)


def find_fascicles(points: NDArray, radial: NDArray) -> Fascicles:
    """Find the bundles at MNI points, shape (N, 3); radial fibres follow unit vectors, shape (N, 3)."""
    kinds = len(BUNDLES) + 1
    weights = np.zeros((len(points), kinds), dtype=np.float32)
    axes = np.zeros((len(points), kinds, 3), dtype=np.float32)
    for b, bundle in enumerate(BUNDLES):
        inside, weight, direction = locate(bundle, points)
        weights[inside, b], axes[inside, b] = weight, direction
    bundle, weight = weights[:, :-1].argmax(axis=1), weights.max(axis=1)
    weights[:, -1], axes[:, -1] = RADIAL_WEIGHT, radial
    top = np.argsort(-weights, axis=1, kind="stable")[:, :FASCICLES]
    fractions = np.take_along_axis(weights, top, axis=1)
    return Fascicles(
        fractions / fractions.sum(axis=1, keepdims=True),
        top,
        np.take_along_axis(axes, top[..., None], axis=1),
        bundle,
        weight,
    )


@dataclass(frozen=True)
class Brain:
    """A participant's anatomy, which can be sampled on any grid in T1 world space.

    Attributes
    ----------
    individual : Drawn
    template : Template
    shape : Shape
        From the affinely normalised brain to MNI152.
    distortion : Shape or None
        Of the image, in T1 world mm: its value at x is that of the tissue at x + displacement(x).
    """

    individual: Drawn
    template: Template
    shape: Shape
    distortion: Shape | None = None

    def shown(self, points: NDArray) -> NDArray:
        """Points of the anatomy, shape (N, 3), whose tissue the image has at `points`; both in T1 world mm."""
        return points if self.distortion is None else self.distortion.pull(points)

    def to_mni(self, points: NDArray) -> NDArray[np.float32]:
        """MNI152 points, shape (N, 3), of T1 world points, shape (N, 3), both in mm."""
        m, points = self.individual.to_brain, self.shown(points)
        return self.shape.pull(points @ m[:3, :3].T + m[:3, 3])

    def axes_to_t1(self, points: NDArray, axes: NDArray) -> NDArray[np.float32]:
        """Rotate MNI unit vectors, shape (N, K, 3), at T1 world points to T1 world axes."""
        m, points = self.individual.to_brain, self.shown(points)
        jacobian = self.shape.jacobian()
        flat = anatomy.sample(
            jacobian.reshape(9, *jacobian.shape[2:]),
            self.shape.affine,
            points @ m[:3, :3].T + m[:3, 3],
            mode="nearest",
        )
        inverse = np.linalg.inv(flat.reshape(-1, 3, 3) @ m[:3, :3].astype(np.float32))
        rotated = np.einsum("nij,nkj->nki", inverse, axes)
        length = np.linalg.norm(rotated, axis=-1, keepdims=True)
        # The axis of an absent fascicle is zero and stays zero.
        return np.divide(rotated, length, out=rotated, where=length > 0)

    def tissue(self, points: NDArray) -> NDArray[np.float32]:
        """Fractions of grey, white matter and fluid at T1 world points, shape (N, 3)."""
        return anatomy.sample(self.template.tissue, self.template.affine, self.to_mni(points))


def make_brain(individual: Individual, template: Template, options: Phantom) -> Brain:
    """Combine a participant, the template and the participant's shape.

    Parameters
    ----------
    individual : Individual
    template : Template
    options : Phantom

    Returns
    -------
    Brain
        Without distortion.
    """
    return Brain(individual, template, participant_shape(individual, template, options))


def distort(brain: Brain, axis: NDArray, options: Simulation, affine: NDArray, shape: tuple[int, int, int]) -> Brain:
    """Distort a brain as an echo-planar image does: smoothly, along the phase-encoding axis.

    The change of intensity by compression is not simulated: FA does not depend on it.

    Parameters
    ----------
    brain : Brain
    axis : ndarray, shape (3,)
        Unit vector in T1 world axes.
    options : Simulation
        `distortion_mm` is the largest shift inside the head.
    affine : ndarray, shape (4, 4)
        Of a coarse grid over the field of view, to T1 world mm.
    shape : (int, int, int)
        Of that grid.

    Returns
    -------
    Brain
        The same brain with a distortion.
    """
    rng = stream(options.seed, brain.individual.label, "distortion")
    sigma = DISTORTION_SIGMA_MM / np.linalg.norm(affine[:3, :3], axis=0)
    shift = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    head = brain.tissue(grid_points(affine, shape)).sum(axis=1).reshape(shape) > 0
    shift *= options.distortion_mm / np.abs(shift[head]).max()
    field = np.asarray(axis)[:, None, None, None] * shift
    return replace(brain, distortion=Shape(field.astype(np.float32), affine))


def grid_points(affine: NDArray, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """World mm of all voxel centres, shape (X * Y * Z, 3), last axis of the grid fastest."""
    indices = np.indices(shape, dtype=np.float32).reshape(3, -1)
    return (affine[:3, :3].astype(np.float32) @ indices + affine[:3, 3:].astype(np.float32)).T


def voxel_tissue(
    brain: Brain, affine: NDArray, shape: tuple[int, int, int]
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Partial volumes: tissue averaged over eight points of each voxel of the head.

    Parameters
    ----------
    brain : Brain
    affine : ndarray, shape (4, 4)
        Of the grid, to T1 world mm.
    shape : (int, int, int)

    Returns
    -------
    inside : ndarray of int, shape (n,)
        Flat indices of the voxels that hold any tissue.
    fractions : ndarray, shape (n, 3)
    points : ndarray, shape (n, 3)
        T1 world mm of the voxels' centres.
    """
    points = grid_points(affine, shape)
    head = brain.tissue(points).sum(axis=1).reshape(shape) > 0
    near = np.flatnonzero(ndimage.binary_dilation(head))
    fractions = np.zeros((len(near), 3), dtype=np.float32)
    for corner in np.ndindex(2, 2, 2):
        offset = affine[:3, :3] @ (np.array(corner) / 2 - 0.25)
        fractions += brain.tissue(points[near] + offset.astype(np.float32)) / 8
    kept = fractions.sum(axis=1) > 0
    return near[kept], fractions[kept], points[near[kept]]


@dataclass(frozen=True)
class Diffusion:
    """Noise-free diffusion signal and its ground truth in the voxels of the head.

    Attributes
    ----------
    inside : ndarray of int, shape (n,)
        Flat indices of these voxels in the grid.
    signal : ndarray, shape (n, V)
        Relative to white matter without diffusion weighting.
    tensor : ndarray, shape (n, 6)
        In mm2/s.
    fa : ndarray, shape (n,)
    labels : ndarray of int, shape (n,)
        Number of the strongest bundle, from 1; 0 outside all bundles.
    """

    inside: NDArray[np.intp]
    signal: NDArray[np.float32]
    tensor: NDArray[np.float32]
    fa: NDArray[np.float32]
    labels: NDArray[np.int16]


def simulate_diffusion(
    brain: Brain, affine: NDArray, shape: tuple[int, int, int], bvals: NDArray, directions: NDArray
) -> Diffusion:
    """Simulate diffusion signal, tensor, FA and bundle regions on a grid.

    Parameters
    ----------
    brain : Brain
    affine : ndarray, shape (4, 4)
        Of the grid, to T1 world mm.
    shape : (int, int, int)
    bvals : ndarray, shape (V,)
        In s/mm2.
    directions : ndarray, shape (V, 3)
        In T1 world axes.

    Returns
    -------
    Diffusion
        Tensors are in T1 world axes.
    """
    inside, fractions, points = voxel_tissue(brain, affine, shape)
    white = fractions[:, WHITE] > MIN_WHITE
    fractions[~white, GREY] += fractions[~white, WHITE]
    fractions[~white, WHITE] = 0
    mni = brain.to_mni(points)
    radial = radial_axes(mni, brain.template)
    fibres = find_fascicles(mni[white], radial[white])

    def signal_of(tissue: int, where: NDArray, fa: NDArray, parts: NDArray, axes: NDArray) -> NDArray:
        along, across = signal.eigenvalues(fa, MD[tissue])
        axes = brain.axes_to_t1(points[where], axes)
        one = signal.multi_tensor(bvals, directions, parts, axes, along, across)
        return S0[tissue] * fractions[where, tissue, None] * one

    everywhere = np.ones(len(points), dtype=bool)
    whole = np.ones((len(points), 1), dtype=np.float32)
    total = signal_of(GREY, everywhere, GREY_FA * whole, whole, radial[:, None])
    total += S0[CSF] * fractions[:, CSF, None] * np.exp(-bvals * MD[CSF]).astype(np.float32)
    fa = brain.individual.fa.astype(np.float32)[fibres.kinds]
    total[white] += signal_of(WHITE, white, fa, fibres.fractions, fibres.axes)
    tensor = signal.fit_tensor(total, bvals, directions)
    region = (fibres.weight > REGION_WEIGHT) & (fractions[white, WHITE] > REGION_WHITE)
    labels = np.zeros(len(points), dtype=np.int16)
    labels[white] = (1 + fibres.bundle) * region
    return Diffusion(inside, total, tensor, measures(tensor).fa.astype(np.float32), labels)


def simulate_t1(
    brain: Brain,
    affine: NDArray,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    snr: float,
    contrast: float = 1.0,
) -> NDArray[np.float32]:
    """Simulate a T1-weighted image on a grid in T1 world space.

    Parameters
    ----------
    brain : Brain
    affine : ndarray, shape (4, 4)
        Of the grid, to T1 world mm.
    shape : (int, int, int)
    rng : numpy.random.Generator
    snr : float
        Signal-to-noise ratio of white matter.
    contrast : float
        Exponent of intensities relative to white matter.

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Pure white matter has a value of about 0.88.
    """
    points = grid_points(affine, shape)
    mni = brain.to_mni(points)
    tissue = anatomy.sample(brain.template.tissue, brain.template.affine, mni)
    head = np.flatnonzero(tissue.sum(axis=1) > 0)
    tissue, mni = tissue[head], mni[head]
    white = tissue[:, WHITE] > MIN_WHITE
    fibres = find_fascicles(mni[white], radial_axes(mni[white], brain.template))
    myelin = (brain.individual.myelin.astype(np.float32)[fibres.kinds] * fibres.fractions).sum(axis=1)
    intensity = tissue @ np.array([T1_INTENSITY[k] for k in range(3)], dtype=np.float32)
    detail = anatomy.sample(brain.template.detail[None], brain.template.affine, mni)[:, 0]
    intensity += detail
    intensity[white] += T1_INTENSITY[WHITE] * T1_PER_MYELIN * myelin * tissue[white, WHITE]
    if contrast != 1:
        relative = intensity.clip(0) / T1_INTENSITY[WHITE]
        intensity = (T1_INTENSITY[WHITE] * relative**contrast).astype(np.float32)
    t1 = np.zeros(shape, dtype=np.float32)
    t1.reshape(-1)[head] = intensity
    t1 *= signal.bias_field(rng, shape, BIAS_SD)
    return signal.add_rician_noise(t1, T1_INTENSITY[WHITE] / snr, rng)
