"""Tensor fields and noise-free series with known fibres, and options to track in them."""

import numpy as np
from scipy.spatial.transform import Rotation

from m2m.diffusion import tensors
from m2m.diffusion.dwi import Dwi
from m2m.diffusion.tractography.tracks import Field
from m2m.io.volume import Volume
from m2m.options import DipyTracking, MrtrixTracking, Tractography

SHAPE = (10, 11, 9)
DIRECTION = np.array([0.8, 0.5, 0.33]) / np.linalg.norm([0.8, 0.5, 0.33])
ROTATION = Rotation.from_rotvec(np.radians(35) * np.array([1, 2, 3]) / np.sqrt(14)).as_matrix()


def affine_of(axes, shift=(20.0, -30.0, 10.0)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, shift
    return affine


AFFINES = {
    "stored leftwards": affine_of(np.diag([-2.0, 2.0, 2.0])),
    "oblique, leftwards": affine_of(ROTATION @ np.diag([-2.0, 2.2, 2.5])),
    "oblique, permuted": affine_of(ROTATION.T @ np.array([[0, 0, 2.0], [-2.0, 0, 0], [0, 2.0, 0]])),
}
OBLIQUE = AFFINES["oblique, leftwards"]


def six_of(direction, fa_high=True):
    """A tensor along a direction, FA 0.80 or 0.04, shape (6,)."""
    along = 1.4e-3 if fa_high else 0.02e-3
    return tensors.from_matrix((0.3e-3 * np.eye(3)) + along * np.outer(direction, direction))


def gradients(n=60, b=2000.0):
    """Two b = 0 and directions spread evenly over a half sphere (a Fibonacci spiral)."""
    z = (np.arange(n) + 0.5) / n
    angle = np.arange(n) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    bvecs = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), z])
    return np.r_[0, 0, np.full(n, b)], np.vstack([np.zeros((2, 3)), bvecs])


def signal(six, bvals, bvecs):
    """Noise-free signal of tensors, shape (..., 6)."""
    attenuation = np.einsum("ni,...ij,nj->...n", bvecs, tensors.to_matrix(six), bvecs)
    return (1000 * np.exp(-bvals * attenuation)).astype(np.float32)


def field_of(six, affine, scan=False, n=60):
    six = np.asarray(six)
    mask = np.ones(six.shape[:3], bool)
    if not scan:
        return Field(six, mask, affine)
    bvals, bvecs = gradients(n)
    series = Dwi(Volume(signal(six, bvals, bvecs), affine), bvals, bvecs)
    return Field(six, mask, affine, series, np.ones(len(bvals), bool))


def straight(affine=OBLIQUE, shape=SHAPE, **kwargs):
    """The same fibre direction in all voxels."""
    return field_of(np.broadcast_to(six_of(DIRECTION), (*shape, 6)).copy(), affine, **kwargs)


def dipy(model="tensor", algorithm="eudx", **kwargs):
    chosen = {"seeds_per_voxel": 1, "length_mm": (8.0, 250.0)} | kwargs
    return Tractography(dipy=DipyTracking(model=model, algorithm=algorithm), **chosen)


def mrtrix(algorithm="iFOD2", response="tournier", sift2=False, five_tissue=None, **kwargs):
    chosen = {"seeds_per_voxel": 1, "length_mm": (8.0, 250.0)} | kwargs
    own = MrtrixTracking(algorithm=algorithm, response=response, sift2=sift2, five_tissue=five_tissue)
    return Tractography(backend="mrtrix3", mrtrix3=own, **chosen)


def angles(streamlines, direction=DIRECTION):
    """Angle of each streamline's ends to a direction, degrees."""
    ends = np.array([points[-1] - points[0] for points in streamlines])
    ends /= np.linalg.norm(ends, axis=1)[:, None]
    return np.degrees(np.arccos(np.abs(ends @ direction).clip(0, 1)))


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def arc():
    """Fibres in circles around the world's z axis, 20 mm wide."""
    affine = affine_of(np.diag([-2.0, 2.0, 2.0]), (39.0, -39.0, -4.0))
    points = np.moveaxis(np.indices((40, 40, 5)), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    radius = np.linalg.norm(points[..., :2], axis=-1)
    tangent = np.stack([-points[..., 1], points[..., 0], 0 * radius], -1) / radius[..., None]
    ring = (radius > 24) & (radius < 34)
    outer = np.einsum("...i,...j->...ij", tangent, tangent) * np.where(ring, 1.4e-3, 0)[..., None, None]
    return field_of(tensors.from_matrix(0.3e-3 * np.eye(3) + outer), affine)


def crossing():
    """Bundles along x and y that cross in the middle, 8 mm wide, in a background of low FA."""
    x, y, _ = np.indices((21, 21, 4))
    along_x, along_y = abs(y - 10) <= 2, abs(x - 10) <= 2
    bvals, bvecs = gradients(b=3000.0)
    rows = signal(np.array([six_of([1, 0, 0]), six_of([0, 1, 0])]), bvals, bvecs)
    data = np.broadcast_to(signal(six_of([0, 0, 1], False), bvals, bvecs), (21, 21, 4, 62)).copy()
    data[along_x], data[along_y] = rows[0], rows[1]
    data[along_x & along_y] = rows.mean(axis=0)
    six = np.broadcast_to(six_of([0, 0, 1], False), (21, 21, 4, 6)).copy()
    six[along_x], six[along_y] = six_of([1, 0, 0]), six_of([0, 1, 0])
    # The tensor of the crossing is planar.
    six[along_x & along_y] = (six_of([1, 0, 0]) + six_of([0, 1, 0])) / 2
    affine = affine_of(np.diag([-2.0, 2.0, 2.0]), (20.0, -20.0, 0.0))
    series = Dwi(Volume(data, affine), bvals, bvecs)
    return Field(six, np.ones((21, 21, 4), bool), affine, series, np.ones(62, bool))
