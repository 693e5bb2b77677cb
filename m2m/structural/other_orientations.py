"""Whether a head lies as its header says: registrations from all 24 orientations of the image's axes.

A registration from a wrong orientation ends in a local optimum, and nothing fails. Its mutual information is
below that of the right orientation, which therefore is looked for. A registration counts for the orientation
that it ends in: from another one it may come back to the given one.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.volume import Volume, coarsen, resample, to_ras
from m2m.structural.register import Kind, Registration, align, dilated, find_transform
from m2m.structural.template_search import REFINE_MM, outline_start, search_level

# Spacing (mm) of these registrations: they need no more than the brain's shape and its large structures.
ROTATED_MM = 8.0
# Iterations from each orientation, and of the orientations that come out best.
FIRST, FURTHER, N_FURTHER = 8, 15, 4
GIVEN = "as given"


@dataclass(frozen=True)
class Rotated:
    """The orientation, other than the given one, of the highest mutual information.

    Attributes
    ----------
    name : str
        The rotation, in words.
    mi, mi_given : float
        Mutual information (nats) of this orientation and of the given one, at `ROTATED_MM`.
    """

    name: str
    mi: float
    mi_given: float

    @property
    def ratio(self) -> float:
        """Mutual information of the other orientation over that of the given one."""
        return self.mi / max(self.mi_given, 1e-12)


@functools.cache
def rotations() -> Mapping[str, NDArray[np.float64]]:
    """Rotations, shape (4, 4), of a cube onto itself: 24, by name, the identity first."""
    found = {}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(matrix) > 0:
                found[_name(matrix[:3, :3])] = matrix
    return found


def _name(rotation: NDArray) -> str:
    """Rotation in words: its angle and the axis in RAS+ world coordinates."""
    vector = Rotation.from_matrix(rotation).as_rotvec(degrees=True)
    if not vector.any():
        return GIVEN
    angle = float(np.linalg.norm(vector))
    parts = [("-" if part < 0 else "+") + axis for part, axis in zip(vector, "xyz", strict=True) if abs(part) > 1]
    return f"rotated by {angle:.0f} degrees about {''.join(parts)}"


def orientation_of(transform: NDArray) -> str:
    """Name of the rotation, one of `rotations`, that is nearest to a transform's; `GIVEN` up to 45 degrees.

    Parameters
    ----------
    transform : ndarray, shape (4, 4)
        Static world mm to moving world mm; the inverse of its rotation is the orientation of the head.
    """
    inverse = polar(transform[:3, :3])[0].T
    return max(every := rotations(), key=lambda name: float(np.sum(every[name][:3, :3] * inverse)))


def best_rotated(
    static: Volume, moving: Volume, mask: NDArray, starts: Sequence[NDArray], found: NDArray, kind: Kind
) -> Rotated:
    """Register from every start, and compare those that end in another orientation with what ends in the given one.

    Parameters
    ----------
    static, moving : Volume
        At `ROTATED_MM`.
    mask : ndarray of bool
        On the static volume's grid.
    starts : sequence of ndarray, shape (4, 4)
        Static world mm to moving world mm, one or several for each orientation.
    found : ndarray, shape (4, 4)
        The registration from the headers as given.
    kind : {"rigid", "affine"}

    Returns
    -------
    Rotated
    """
    first: dict[str, list[tuple[NDArray, float]]] = {}
    for start in starts:
        one = find_transform(static, moving, "rigid", start, mask, FIRST)
        first.setdefault(orientation_of(one[0]), []).append(one)
    first.pop(GIVEN, None)
    best = sorted(first, key=lambda turn: -max(value for _, value in first[turn]))[:N_FURTHER]
    ends = [find_transform(static, moving, kind, start, mask, FURTHER) for turn in best for start, _ in first[turn]]
    ends += [find_transform(static, moving, kind, found, mask, n) for n in (0, FIRST + FURTHER)]
    mi: dict[str, float] = {}
    for transform, value in ends:
        turn = orientation_of(transform)
        mi[turn] = max(value, mi.get(turn, 0.0))
    if GIVEN not in mi:
        mi[GIVEN] = find_transform(static, moving, kind, _without_rotation(found, mask, static), mask, 0)[1]
    mi_given = mi.pop(GIVEN)
    name = max(mi, key=mi.__getitem__, default=GIVEN)
    return Rotated(name, mi.get(name, 0.0), mi_given)


def _without_rotation(transform: NDArray, mask: NDArray, static: Volume) -> NDArray[np.float64]:
    """Transform, shape (4, 4), of the same sizes and the same place of the mask's centre, without its rotation."""
    centre = apply_affine(static.affine, np.argwhere(mask).mean(0))
    matrix = np.eye(4)
    matrix[:3, :3] = polar(transform[:3, :3])[1]
    matrix[:3, 3] = apply_affine(transform, centre) - matrix[:3, :3] @ centre
    return matrix


def rotated_t1(t1: Volume, found: NDArray, scalps_mm: tuple[float, ...]) -> Rotated:
    """Compare a T1's registration to the template with those of the T1 in 23 other orientations.

    Parameters
    ----------
    t1 : Volume
    found : ndarray, shape (4, 4)
        MNI152 mm to the T1's world mm.
    scalps_mm : tuple of float
        Thicknesses of scalp and skull, as of `find_template`: from a start of another size the right orientation, too,
        ends in a local optimum.

    Returns
    -------
    Rotated
    """
    moving, static, rim = search_level(t1, ROTATED_MM)
    head = coarsen(t1, REFINE_MM)
    starts = []
    for name, turn in rotations().items():
        if name == GIVEN:
            continue
        upright = to_ras(Volume(head.data, turn @ head.affine))
        for scalp_mm in scalps_mm:
            with suppress(DataError):  # the head does not lie so
                starts.append(np.linalg.inv(turn) @ outline_start(upright, scalp_mm))
    return best_rotated(static, moving, rim, starts, found, "affine")


def align_from_centres(t1: Volume, brain: NDArray, fa: Volume, dwi_mask: Volume, first: Registration) -> Registration:
    """Register FA to a T1 again, from the brains' centres; keep the registration of higher mutual information.

    Parameters
    ----------
    t1 : Volume
    brain : ndarray of bool, shape (X, Y, Z)
        On the T1's grid.
    fa, dwi_mask : Volume
        On the diffusion grid; FA is 0 outside the mask.
    first : Registration
        From the headers.

    Returns
    -------
    Registration
    """
    start = np.eye(4)
    start[:3, 3] = _centre(in_mask(dwi_mask.data), dwi_mask) - _centre(brain, t1)
    second = align(t1, fa, brain, "rigid", start)
    if second.mi_registered <= first.mi_registered:
        return first
    return replace(second, mi_headers=first.mi_headers, kept="registration")


def _centre(mask: NDArray, like: Volume) -> NDArray[np.float64]:
    """Centre of mass of a mask, world mm."""
    return apply_affine(like.affine, np.argwhere(mask).mean(0))


def rotated_dwi(t1: Volume, brain: NDArray, fa: Volume, dwi_mask: Volume, found: NDArray) -> Rotated:
    """Compare the registration of FA to a T1 with those of the series in 23 other orientations.

    Parameters
    ----------
    t1 : Volume
    brain : ndarray of bool, shape (X, Y, Z)
        On the T1's grid.
    fa, dwi_mask : Volume
        On the diffusion grid; FA is 0 outside the mask.
    found : ndarray, shape (4, 4)
        T1 world mm to DWI world mm.

    Returns
    -------
    Rotated
    """
    static, moving = coarsen(t1, ROTATED_MM), coarsen(fa, ROTATED_MM)
    inside = in_mask(resample(Volume(brain.astype(np.float32), t1.affine), static.affine, static.shape).data)
    centre, to = _centre(brain, t1), _centre(in_mask(dwi_mask.data), dwi_mask)
    starts = []
    for name, turn in rotations().items():
        start = turn.copy()
        start[:3, 3] = to - turn[:3, :3] @ centre
        if name != GIVEN:
            starts.append(start)
    return best_rotated(static, moving, dilated(inside, ROTATED_MM), starts, found, "rigid")


def require_upright(rotated: Rotated, limit: float, key: str, least_mi: float = 0.0) -> None:
    """Check that no other orientation fits better than the given one.

    Parameters
    ----------
    rotated : Rotated
    limit : float
        Of `Rotated.ratio`.
    key : str
        Of the limit in the configuration.
    least_mi : float
        Of the other orientation (nats): below it the image is like the template in none.

    Raises
    ------
    DataError
        One does.
    """
    if rotated.ratio > limit and rotated.mi >= least_mi:
        raise DataError(
            f"the head does not lie as the header says: it fits better {rotated.name}",
            value=f"mutual information {rotated.mi:.2f} so, {rotated.mi_given:.2f} as given; "
            f"ratio {rotated.ratio:.2f}, limit {limit:g} ({key})",
            remedy="look at the image; convert it from DICOM again, or write the right orientation into its header",
        )
