"""A participant made of real parts: a real T1, and the group's FA and fibres carried into it.

The template is deformed to the T1 by registration. A further random deformation and a position in the scanner are the
participant's own. FA of the noise-free signal is that of the group at the corresponding point of the template, and the
principal direction that of the group's streamlines there, turned with the head.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit

from m2m.diffusion.tensors import from_matrix, measures, nearest_rotation, rotate, to_matrix
from m2m.io.volume import Volume, blur_to, load
from m2m.options import Anat, Deformation, Template
from m2m.phantom import anatomy, signal
from m2m.phantom.anatomy import CSF, GREY, WHITE
from m2m.phantom.brain import MD, REGION_WHITE, S0, T1_PER_MYELIN, Brain, Diffusion, grid_points, voxel_tissue
from m2m.phantom.group_maps import GroupMaps, sample_nearest, sample_six
from m2m.phantom.group_streamlines import Segments
from m2m.phantom.individuals import CENTRE_MM, REFERENCE_AGE, SPREAD_FA, Drawn, draw_pose, fibres, stream
from m2m.phantom.shape import Shape, flow, random_velocity
from m2m.phantom.t1_variation import vary
from m2m.structural.anat import prepare
from m2m.structural.deformation import deform
from m2m.structural.displacement import jacobians

# Grid on which the template is deformed to a T1.
REGISTERED = Anat(spacing_mm=2.0, shape=(96, 120, 104))
# Grid and smoothing of the deviation of FA along bundles, and the length of streamlines in a voxel (mm) from which on
# it is that of the bundles.
DEVIATION_MM, DEVIATION_SIGMA_MM, CROSSED_MM = 3.0, 3.0, 1.0
# FA from which on a tensor has the axial symmetry of single fibres, whatever crosses.
SINGLE_FA = 0.7
MOST_FA = 0.95


@dataclass(frozen=True)
class RegisteredT1:
    """A T1 with the deformation of the template to it.

    Attributes
    ----------
    t1 : Volume
        As acquired, relative to the median of its white matter.
    centre_mm : ndarray, shape (3,)
        Of the brain, T1 world mm.
    forward : Volume, shape (X, Y, Z, 3)
        Displacements, as `m2m.structural.displacement` defines them.
    to_mni : ndarray, shape (4, 4)
        From T1 world mm, after the displacement, to MNI152 mm.
    """

    t1: Volume
    centre_mm: NDArray[np.float64]
    forward: Volume
    to_mni: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RealHead(Brain):
    """A participant made of a registered T1; `template` gives the tissues, `shape` is a further deformation of the T1.

    Attributes
    ----------
    registered : RegisteredT1
    group : GroupMaps
        FA smoothed to the voxels of the DWI.
    deviation : Volume, shape (X, Y, Z, 2)
        Of the participant, on a coarse grid in MNI152 space: of the logit of FA, and of the T1 of white matter.
    """

    registered: RegisteredT1
    group: GroupMaps
    deviation: Volume

    def to_anatomy(self, points: NDArray) -> NDArray[np.float32]:
        """Points of the T1 as acquired, shape (N, 3), of T1 world points, shape (N, 3), both in mm."""
        m, points = self.individual.to_brain, self.shown(points)
        return self.shape.pull(points @ m[:3, :3].T + m[:3, 3])

    def to_mni(self, points: NDArray) -> NDArray[np.float32]:
        """MNI152 points, shape (N, 3), of T1 world points, shape (N, 3), both in mm."""
        forward, points = self.registered.forward, self.to_anatomy(points)
        shift_mm = anatomy.sample(np.moveaxis(forward.data, -1, 0), forward.affine, points, mode="nearest")
        return np.asarray(apply_affine(self.registered.to_mni, points + shift_mm), dtype=np.float32)

    def rotations(self, points: NDArray) -> NDArray[np.float64]:
        """Rotations from MNI axes to T1 world axes at T1 world points, shape (N, 3, 3), by finite strain."""
        m, forward = self.individual.to_brain, self.registered.forward
        drawn = self.shape.jacobian()
        own = anatomy.sample(
            drawn.reshape(9, *drawn.shape[2:]),
            self.shape.affine,
            self.shown(points) @ m[:3, :3].T + m[:3, 3],
            mode="nearest",
        )
        of_group = np.moveaxis(jacobians(forward.data, forward.affine).reshape(*forward.shape, 9), -1, 0)
        group = anatomy.sample(of_group, forward.affine, self.to_anatomy(points), mode="nearest").reshape(-1, 3, 3)
        chain = self.registered.to_mni[:3, :3] @ group @ own.reshape(-1, 3, 3) @ m[:3, :3]
        return nearest_rotation(chain).swapaxes(-1, -2)


def register_t1(path: Path) -> RegisteredT1:
    """Deform the template to a T1.

    Parameters
    ----------
    path : Path

    Returns
    -------
    RegisteredT1

    Raises
    ------
    DataError
        It is no T1 of a head, or of one that lies otherwise than its header says.
    """
    t1 = load(path)
    found = prepare(t1, None, REGISTERED)
    forward = deform(found.t1, found.brain, found.grid_to_mni, Deformation()).forward
    level = float(np.median(found.t1.data[found.wm.data]))
    return RegisteredT1(
        Volume(np.maximum(t1.data / level, 0).astype(np.float32), t1.affine),
        found.brain_centre_mm,
        Volume(forward, found.t1.affine),
        found.grid_to_mni,
    )


def draw_participant(
    options: Template, label: str, registered: RegisteredT1, age_years: float | None, sex: str | None, kinds: int
) -> Drawn:
    """Draw a participant; where age or sex are not known they have no effect.

    Parameters
    ----------
    options : Template
    label : str
        Digits.
    registered : RegisteredT1
    age_years : float or None
    sex : {"F", "M"} or None
    kinds : int
        Number of bundles.

    Returns
    -------
    Drawn
    """
    rng = stream(options.seed, label, "microstructure")
    age = REFERENCE_AGE if age_years is None else age_years
    fa, myelin = fibres(rng, options, age, sex, np.full(kinds, SPREAD_FA), np.ones(kinds))
    pose = draw_pose(options, label)
    to_brain = pose.from_scanner.copy()
    to_brain[:3, 3] += registered.centre_mm - np.array(CENTRE_MM)
    return Drawn(label, age_years, sex, to_brain, pose, fa, myelin)


def further_shape(options: Template, label: str, t1: Volume) -> Shape:
    """Draw the smooth deformation of a participant beyond that of the T1, on a grid over its field of view."""
    step = anatomy.COARSE_MM
    corners = apply_affine(t1.affine, np.array(list(np.ndindex(2, 2, 2))) * (np.array(t1.shape) - 1))
    shape = tuple(int(n) for n in np.ceil(np.ptp(corners, axis=0) / step) + 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = corners.min(axis=0)
    rng = stream(options.seed, label, "shape")
    return flow(random_velocity(rng, shape, step, options.deformation_mm), affine)


def deviation_of(drawn: Drawn, segments: Segments, affine: NDArray, shape: tuple[int, int, int]) -> Volume:
    """Deviations of one participant along the bundles: means of those of the bundles in each voxel.

    Parameters
    ----------
    drawn : Drawn
        With a value for each bundle.
    segments : Segments
    affine : ndarray, shape (4, 4)
        Of a coarse grid in MNI152 mm.
    shape : (int, int, int)

    Returns
    -------
    Volume, shape (X, Y, Z, 2)
        Of the logit of FA, and of the T1 of white matter; 0 where no bundle passes.
    """
    length = segments.length_mm
    shift = logit(drawn.fa) - logit(SPREAD_FA)
    crossed, fa, myelin = (
        segments.density(length * weight, affine, shape, DEVIATION_SIGMA_MM)
        for weight in (1, shift[segments.bundle], drawn.myelin[segments.bundle])
    )
    return Volume(np.stack([fa, myelin], axis=-1) / (crossed[..., None] + CROSSED_MM), affine)


def make_head(
    options: Template,
    label: str,
    registered: RegisteredT1,
    group: GroupMaps,
    segments: Segments,
    age_years: float | None,
    sex: str | None,
) -> RealHead:
    """Combine a registered T1, the group's maps, and what is drawn for the participant.

    Parameters
    ----------
    options : Template
    label : str
        Digits.
    registered : RegisteredT1
    group : GroupMaps
    segments : Segments
    age_years : float or None
    sex : {"F", "M"} or None

    Returns
    -------
    RealHead
        Without distortion.
    """
    drawn = draw_participant(options, label, registered, age_years, sex, len(segments.names))
    ratio = DEVIATION_MM / float(group.orientation.spacing_mm.mean())
    affine = group.orientation.affine @ np.diag([ratio, ratio, ratio, 1.0])
    x, y, z = (int(np.ceil(n / ratio)) for n in group.orientation.shape)
    smooth = GroupMaps(blur_to(group.fa, options.dwi_spacing_mm), group.orientation, group.bundles)
    return RealHead(
        drawn,
        anatomy.load_template(),
        further_shape(options, label, registered.t1),
        registered=registered,
        group=smooth,
        deviation=deviation_of(drawn, segments, affine, (x, y, z)),
    )


def shaped(orientation: NDArray, fa: NDArray) -> NDArray[np.float64]:
    """Tensors of a mean diffusivity of 1 with given FA and orientations.

    The tensor is isotropic plus a multiple of the mean dyadic product's deviation from isotropy: planar where fibres
    cross. Towards `SINGLE_FA`, above which such a tensor would not be positive, it becomes axially symmetric.

    Parameters
    ----------
    orientation : ndarray, shape (N, 6)
        Mean dyadic products.
    fa : ndarray, shape (N,)
        From 0 to below 1.

    Returns
    -------
    ndarray, shape (N, 6)
        Positive definite.
    """
    matrix = to_matrix(np.asarray(orientation, np.float64))
    axis = measures(orientation).v1
    axis[~axis.any(axis=-1)] = (1, 0, 0)
    single = axis[:, :, None] * axis[:, None, :]
    deviatoric = np.stack([_unit_deviatoric(m) for m in (matrix, single)])
    weight = np.clip(fa / SINGLE_FA, 0, 1)[:, None, None] ** 2
    mixed = _unit_deviatoric((1 - weight) * deviatoric[0] + weight * deviatoric[1])
    size = np.sqrt(3 * fa**2 / (1.5 - fa**2))
    return from_matrix(np.eye(3) + size[:, None, None] * mixed)


def _unit_deviatoric(matrix: NDArray) -> NDArray[np.float64]:
    """Symmetric matrices, shape (N, 3, 3), less their mean diagonal, of Frobenius norm 1 or, where isotropic, 0."""
    traceless = matrix - np.eye(3) * np.trace(matrix, axis1=1, axis2=2)[:, None, None] / 3
    norm = np.linalg.norm(traceless, axis=(1, 2), keepdims=True)
    return np.divide(traceless, norm, out=np.zeros_like(traceless), where=norm > 1e-9)


def group_fa(head: RealHead, mni: NDArray) -> NDArray[np.float64]:
    """FA at MNI152 points, shape (N, 3): that of the group, with the participant's deviation along bundles."""
    fa = anatomy.sample(head.group.fa.data[None], head.group.fa.affine, mni)[:, 0].clip(1e-3, MOST_FA)
    shift = anatomy.sample(head.deviation.data[None, ..., 0], head.deviation.affine, mni, mode="nearest")[:, 0]
    return expit(logit(fa.astype(np.float64)) + shift).clip(0, MOST_FA)


def simulate_diffusion(
    head: RealHead, affine: NDArray, shape: tuple[int, int, int], bvals: NDArray, directions: NDArray
) -> Diffusion:
    """Simulate diffusion signal, tensor, FA and bundle regions on a grid: one tensor in each voxel.

    Parameters
    ----------
    head : RealHead
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
    inside, fractions, points = voxel_tissue(head, affine, shape)
    mni = head.to_mni(points)
    share = fractions / fractions.sum(axis=1, keepdims=True)
    md, s0 = (share @ np.array([of[kind] for kind in (GREY, WHITE, CSF)]) for of in (MD, S0))
    tensor = shaped(sample_six(head.group.orientation, mni), group_fa(head, mni)) * md[:, None]
    tensor = rotate(tensor, head.rotations(points))
    along = np.einsum("vi,nij,vj->nv", directions, to_matrix(tensor), directions, optimize=True)
    total = (s0 * fractions.sum(axis=1))[:, None] * np.exp(-bvals * along)
    fitted = signal.fit_tensor(total, bvals, directions)
    labels = sample_nearest(head.group.bundles, mni) * (fractions[:, WHITE] > REGION_WHITE)
    fa = measures(fitted).fa.astype(np.float32)
    return Diffusion(inside, total.astype(np.float32), fitted, fa, labels.astype(np.int16))


def simulate_t1(
    head: RealHead, affine: NDArray, shape: tuple[int, int, int], rng: np.random.Generator, options: Template
) -> NDArray[np.float32]:
    """Resample the T1 to a grid in the participant's T1 world space, and vary it.

    Parameters
    ----------
    head : RealHead
    affine : ndarray, shape (4, 4)
        Of the grid, to T1 world mm.
    shape : (int, int, int)
    rng : numpy.random.Generator
    options : Template

    Returns
    -------
    ndarray, shape (X, Y, Z)
        White matter has a value of about 1.
    """
    points, source = grid_points(affine, shape), head.registered.t1
    voxels = apply_affine(np.linalg.inv(source.affine), head.to_anatomy(points))
    t1 = ndimage.map_coordinates(source.data, voxels.T, order=3, output=np.float32).clip(0)
    found = np.flatnonzero(t1)
    mni = head.to_mni(points[found])
    white = anatomy.sample(head.template.tissue[WHITE][None], head.template.affine, mni)[:, 0]
    myelin = anatomy.sample(head.deviation.data[None, ..., 1], head.deviation.affine, mni, mode="nearest")[:, 0]
    t1[found] *= 1 + T1_PER_MYELIN * myelin * white
    return vary(t1.reshape(shape), float(np.linalg.norm(affine[:3, 0])), options.t1, rng, options.t1_snr)
