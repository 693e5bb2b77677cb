"""Apply a network to a whole volume: slices in batches, orientations fused. PyTorch is not needed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.fusion import Fuse, View, average
from m2m.models.uncertainty import Prediction
from m2m.options import Trained
from m2m.structural.displacement import MIRRORED
from m2m.structural.slices import PLANES, assemble, extract, positions, slices_at


class Slices(NamedTuple):
    """Output of a network for a batch of slices.

    Attributes
    ----------
    image : ndarray, shape (N, C, H, W)
        Scaled values.
    log_sd : ndarray, shape (N, C, H, W), or None
        Logarithm of the standard deviation that the network predicts; None if it predicts none.
    sample_sd : ndarray, shape (N, C, H, W), or None
        Standard deviation over samples of a network that draws several; None for others.
    """

    image: NDArray[np.float32]
    log_sd: NDArray[np.float32] | None = None
    sample_sd: NDArray[np.float32] | None = None


# What runs a network: from slices (N, context, H, W), their orientations (N,), an index in `PLANES`, and the MNI152 mm
# of their pixels (N, 3, H, W). Low-resolution slices come after the others.
Engine = Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]], Slices]
# Positions of the pixels of slices, from their orientation and indices.
Place = Callable[[str, NDArray[np.intp]], NDArray[np.float32]]


def views_of(options: Trained, target: str) -> dict[str, Any]:
    """Arguments of `translate_volume` for a model: context, planes, mirror and whole."""
    mirror = MODALITIES[target].mirror if options.mirror else None
    whole = options.stack is not None
    return {"context": options.window.context, "planes": options.planes, "mirror": mirror, "whole": whole}


def translate_volume(
    run: Engine,
    source: NDArray[np.float32],
    to_mni: NDArray[np.float64],
    *,
    context: int,
    planes: Sequence[str],
    batch_size: int,
    mirror: Sequence[int] | None = None,
    low_res: NDArray[np.float32] | None = None,
    fuse: Fuse = average,
    whole: bool = False,
    places: NDArray[np.float32] | None = None,
) -> Prediction:
    """Translate a volume slice by slice in each orientation, and fuse the results.

    Parameters
    ----------
    run : callable
        Runs the network on a batch of slices.
    source : ndarray, shape (X, Y, Z)
        Scaled, 0 outside the brain.
    to_mni : ndarray, shape (4, 4)
        From voxels to MNI152 mm.
    context : int
        Number of neighbouring slices, odd; beyond the volume they are 0.
    planes : sequence of str
        Orientations.
    batch_size : int
        Slices.
    mirror : sequence of int or None
        If given, the volume mirrored left to right (first axis) is translated too; the factor of
        each channel under mirroring.
    low_res : ndarray, shape (X, Y, Z), or None
        Low-resolution target on the grid of the source, for networks that need it.
    fuse : callable
        Fuses views, and gives the candidates for the standard deviation. `average` keeps in memory
        the volume, three sums over views and a batch of slices, for any number of views.
    whole : bool
        Whether the network takes all slices of an orientation at once, as a volume.
    places : ndarray, shape (X, Y, Z, 3) or (X, Y, Z, 12), or None
        Of `m2m.structural.displacement.template_places`, for networks whose inputs follow the deformation; None:
        by `to_mni`.

    Returns
    -------
    Prediction
        (X, Y, Z), or (X, Y, Z, C) for several channels.

    Raises
    ------
    DataError
        The source is 0 everywhere.
    """
    if not source.any():
        raise DataError("the source is empty inside the brain", remedy="check the image and its brain mask")
    place = _place(to_mni, source.shape, places)
    volumes: list[tuple[NDArray, NDArray | None, Place, NDArray | None]] = [(source, low_res, place, None)]
    if mirror is not None:
        mirrored = None if places is None else places[::-1] * MIRRORED[: places.shape[-1]]
        place = _place(mirror_affine(to_mni, len(source)), source.shape, mirrored)
        low, factors = None if low_res is None else low_res[::-1], np.asarray(mirror, np.float32)
        volumes.append((source[::-1], low, place, factors))

    def views() -> Iterator[View]:
        for image, low, place, factors in volumes:
            for plane in planes:
                at_once = len(extract(image, plane)) if whole else batch_size
                view = _translate_plane(run, image, low, place, plane, context, at_once)
                yield view if factors is None else _mirror_back(view, factors)

    image, sds = fuse(views(), source != 0)  # (X, Y, Z, C)
    if image.shape[-1] == 1:
        image, sds = image[..., 0], {name: sd[..., 0] for name, sd in sds.items()}
    return Prediction(image, sds)


def _place(to_mni: NDArray, shape: tuple[int, int, int], places: NDArray[np.float32] | None) -> Place:
    """Positions of slices of a volume: those given, or those by an affine transform."""
    return partial(positions, to_mni, shape) if places is None else partial(slices_at, places)


def _mirror_back(view: View, factors: NDArray[np.float32]) -> View:
    """Mirror the view of a mirrored volume back."""
    log_sd, sample_sd = (None if sd is None else sd[::-1] for sd in (view.log_sd, view.sample_sd))
    return View(view.plane, view.image[::-1] * factors, log_sd, sample_sd)


def mirror_affine(to_mni: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Affine to mirrored MNI152 mm of a volume whose first axis, of `width` voxels, is reversed."""
    reverse = np.diag([-1.0, 1, 1, 1])
    reverse[0, 3] = width - 1
    return np.diag([-1.0, 1, 1, 1]) @ to_mni @ reverse


def _translate_plane(
    run: Engine,
    source: NDArray[np.float32],
    low_res: NDArray[np.float32] | None,
    place: Place,
    plane: str,
    context: int,
    batch_size: int,
) -> View:
    """Translate the slices of one orientation.

    Where the source is 0 in a slice and its neighbours, the volumes are 0.
    """
    stack = extract(source, plane).astype(np.float32, copy=False)  # (n, H, W)
    edge = np.zeros((context // 2, *stack.shape[1:]), np.float32)
    windows = np.moveaxis(sliding_window_view(np.concatenate([edge, stack, edge]), context, 0), -1, 1)
    filled = np.flatnonzero(windows.any(axis=(1, 2, 3)))  # of (n, context, H, W)
    low_stack = None if low_res is None else extract(low_res, plane).astype(np.float32, copy=False)[:, None]
    found: list[Slices] = []
    for start in range(0, len(filled), batch_size):
        indices = filled[start : start + batch_size]
        slices = windows[indices]  # (N, context, H, W)
        if low_stack is not None:
            slices = np.concatenate([slices, low_stack[indices]], 1)  # (N, context + 1, H, W)
        orientation = np.full(len(indices), PLANES.index(plane), np.int64)
        found.append(run(np.ascontiguousarray(slices), orientation, place(plane, indices)))
    image, *sds = (
        None if parts[0] is None else _assemble_volume(np.concatenate(parts), filled, len(stack), plane)
        for parts in zip(*found, strict=True)
    )
    assert image is not None  # every network gives one
    return View(plane, image, *sds)


def _assemble_volume(slices: NDArray[np.float32], indices: NDArray, n: int, plane: str) -> NDArray[np.float32]:
    """Volume (X, Y, Z, C) of n slices: those at `indices` (N, C, H, W), and 0 elsewhere."""
    stack = np.zeros((n, *slices.shape[1:]), slices.dtype)
    stack[indices] = slices
    return np.stack([assemble(c, plane) for c in np.moveaxis(stack, 1, 0)], axis=-1)
