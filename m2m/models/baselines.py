"""Two predictions that need no network: the cohort's mean map, and T1 on the target's scale.

Whatever does not beat them has learned nothing about the person.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.diffusion.tensors import nearest_rotation, rotate
from m2m.io.volume import Volume, resample, resample_inside
from m2m.models.uncertainty import Prediction
from m2m.structural.template import load_template

SEEN = 0.5


def fit_mean_map(
    people: Iterable[tuple[Volume, NDArray, NDArray]], spacing_mm: float
) -> dict[str, NDArray]:
    """Average a map over people in template space.

    Each person counts with equal weight where the target was measured. Tensors (six channels) are
    turned with the head by the rotation in its affine. A voxel that fewer than
    half of the people cover takes the value of the nearest one that half of them cover, so that
    people with larger brains than the cohort's have no rim of zeros.

    Parameters
    ----------
    people : iterable of (Volume, ndarray of bool (X, Y, Z), ndarray (4, 4))
        The scaled map, (X, Y, Z) or (X, Y, Z, 6), where it was measured, and the affine from the
        person's world mm to MNI152 mm.
    spacing_mm : float
        Of the mean map's grid, which covers the template.

    Returns
    -------
    dict
        ``mean`` and ``sd`` over people, (X, Y, Z) or (X, Y, Z, 6), ``affine`` (4, 4) to MNI152 mm.

    Raises
    ------
    ValueError
        Nobody was given, or no voxel is covered by half of the people.
    """
    template = load_template("brain", spacing_mm)
    total, squares, weight, n_people = 0.0, 0.0, np.zeros(template.shape), 0
    for volume, mask, to_mni in people:
        values, inside = resample_inside(
            volume, Volume(mask, volume.affine), template.affine, template.shape,
            np.linalg.inv(to_mni),
        )  # fmt: skip
        there = turned(values.data, to_mni)
        total, squares = total + there, squares + there.astype(np.float64) ** 2
        weight += inside.data
        n_people += 1
    common = weight >= max(SEEN * n_people, 1)
    if not common.any():
        raise ValueError(f"no voxel of the template is covered by half of the {n_people} people")
    mean, square = ((part.T / np.where(common, weight, 1).T).T for part in (total, squares))
    sd = np.sqrt(np.maximum(square - mean.astype(np.float64) ** 2, 0))
    nearest = ndimage.distance_transform_edt(~common, return_distances=False, return_indices=True)
    maps = {"mean": mean, "sd": sd}
    maps = {name: part[tuple(nearest)].astype(np.float32) for name, part in maps.items()}
    return maps | {"affine": template.affine}


def predict_mean_map(
    tensors: Mapping[str, NDArray], affine: NDArray, shape: tuple[int, int, int], to_mni: NDArray
) -> Prediction:
    """Carry the mean map to a person's grid, (X, Y, Z) or (X, Y, Z, 6).

    The candidate for the deviation of its error is that over ``people``, element by element.

    Parameters
    ----------
    tensors : mapping
        Of `fit_mean_map`.
    affine, shape
        The person's grid.
    to_mni : ndarray, shape (4, 4)
        The person's world mm to MNI152 mm.
    """
    mean, sd = (
        resample(Volume(tensors[name], tensors["affine"]), affine, shape, to_mni).data
        for name in ("mean", "sd")
    )
    return Prediction(turned(mean, np.linalg.inv(to_mni)), {"people": sd})


def turned(values: NDArray, transform: NDArray) -> NDArray:
    """Turn tensors, or their logarithms, by a transform's rotation; scalars need no turning."""
    if values.ndim == 3:
        return values
    return rotate(values, nearest_rotation(transform[:3, :3])).astype(values.dtype)


def fit_line(people: Iterable[tuple[NDArray, NDArray]]) -> dict[str, NDArray]:
    """Least-squares line from source to target, ``target = intercept + slope * source``.

    Parameters
    ----------
    people : iterable of (ndarray (n,), ndarray (n,) or (n, channels))
        Source and target of each person's voxels; read one person at a time.

    Returns
    -------
    dict
        ``intercept`` and ``slope``, shape (channels,).

    Raises
    ------
    ValueError
        The source does not vary.
    """
    n, x, xx, y, xy = 0, 0.0, 0.0, 0.0, 0.0
    for source, target in people:
        u, v = source.astype(np.float64), target.reshape(len(target), -1).astype(np.float64)
        n, x, xx = n + u.size, x + u.sum(), xx + u @ u
        y, xy = y + v.sum(axis=0), xy + u @ v
    spread = n * xx - x * x
    if spread <= 0:
        raise ValueError(f"the source does not vary over {n:.0f} voxels: no line can be fitted")
    slope = (n * xy - x * y) / spread
    return {"intercept": (y - slope * x) / n, "slope": slope}


def predict_line(tensors: Mapping[str, NDArray], source: NDArray) -> Prediction:
    """Target from source (X, Y, Z) by the line of `fit_line`; (X, Y, Z, 6) for tensors."""
    values = tensors["intercept"] + tensors["slope"] * source[..., None]
    image = values if len(tensors["slope"]) > 1 else values[..., 0]
    return Prediction(image.astype(np.float32), {})
