"""A trained network on a whole volume: orientations joined, a batch of slices at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.fusion import Fuse, View, average
from m2m.models.uncertainty import Prediction
from m2m.options import Trained
from m2m.structural.slices import PLANES, assemble, extract, positions

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(wanted: Device = "auto") -> str:
    """Name the device to compute on: the one wanted, or the best that this machine has.

    Raises
    ------
    DataError
        The one wanted is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = [name for name, is_there in there.items() if is_there] + ["cpu"]
    if wanted not in ("auto", *found):
        raise DataError(
            "this machine does not have the device", value=wanted,
            remedy=f"choose auto or one of: {', '.join(found)}",
        )  # fmt: skip
    return found[0] if wanted == "auto" else wanted


def views_of(options: Trained, target: str) -> dict[str, Any]:
    """How a model sees a volume, for `translate_volume`: context, planes and mirror."""
    mirror = MODALITIES[target].mirror if options.mirror else None
    return {"context": options.window.context, "planes": options.planes, "mirror": mirror}


def translate_volume(
    network: nn.Module,
    source: NDArray[np.float32],
    to_mni: NDArray[np.float64],
    *,
    context: int,
    planes: Sequence[str],
    batch_size: int,
    device: str = "cpu",
    mirror: Sequence[int] | None = None,
    low: NDArray[np.float32] | None = None,
    fuse: Fuse = average,
) -> Prediction:
    """Translate a volume slice by slice in each orientation, and join what they give.

    Parameters
    ----------
    network : Module
        Called with slices (N, context, H, W), orientations (N,) and MNI152 mm (N, 3, H, W).
    source : ndarray, shape (X, Y, Z)
        Scaled, 0 outside the brain.
    to_mni : ndarray, shape (4, 4)
        From voxels to MNI152 mm.
    context : int
        Neighbouring slices seen, an odd number; beyond the volume they are 0.
    planes : sequence of str
    batch_size : int
    device : str
    mirror : sequence of int or None
        Translate the person mirrored left to right too (the first axis): factor of each channel in
        a mirror.
    low : ndarray, shape (X, Y, Z), or None
        The low resolution that the network sees beside the source, on its grid.
    fuse : callable
        How views are joined; it gives the candidates for the deviation too. With `average`,
        memory is the volume, three sums over views and a batch of slices, whatever their number.

    Raises
    ------
    DataError
        The source is 0 everywhere.
    """
    if not source.any():
        raise DataError("the source is empty inside the brain", remedy="look at it and its mask")
    network = network.to(device, memory_format=torch.channels_last)
    seen = [(source, low, to_mni, None)]
    if mirror is not None:
        place, factors = mirrored_place(to_mni, len(source)), np.float32(mirror)
        seen.append((source[::-1], None if low is None else low[::-1], place, factors))

    def views() -> Iterator[View]:
        for image, beside, place, factors in seen:
            for plane in planes:
                view = _translate_plane(
                    network, image, beside, place, plane, context, batch_size, device
                )
                yield view if factors is None else _turned(view, factors)

    image, sds = fuse(views(), source != 0)  # (X, Y, Z, C)
    if image.shape[-1] == 1:
        image, sds = image[..., 0], {name: sd[..., 0] for name, sd in sds.items()}
    return Prediction(image, sds)


def _turned(view: View, factors: NDArray[np.float32]) -> View:
    """The view of a mirrored person, turned back."""
    log_sd = None if view.log_sd is None else view.log_sd[::-1]
    return View(view.plane, view.image[::-1] * factors, log_sd)


def mirrored_place(to_mni: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Affine to MNI152 mm of a volume whose first axis, of `width` voxels, is turned round."""
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = width - 1
    return np.diag([-1.0, 1, 1, 1]) @ to_mni @ turned


@torch.inference_mode()
def _translate_plane(
    network: nn.Module,
    source: NDArray[np.float32],
    low: NDArray[np.float32] | None,
    to_mni: NDArray[np.float64],
    plane: str,
    context: int,
    batch_size: int,
    device: str,
) -> View:
    """Translate the slices of one orientation.

    Where a slice and its neighbours hold nothing of the source, the volumes are 0.
    """
    stack = torch.from_numpy(np.ascontiguousarray(extract(source, plane)))  # (n, H, W)
    edge = stack.new_zeros(context // 2, *stack.shape[1:])
    windows = torch.cat([edge, stack, edge]).unfold(0, context, 1).movedim(-1, 1)
    filled = windows.flatten(1).any(dim=1).nonzero()[:, 0]  # of (n, context, H, W)
    if low is not None:
        beside = torch.from_numpy(np.ascontiguousarray(extract(low, plane)))[:, None]
        windows = torch.cat([windows, beside], 1)  # (n, context + 1, H, W)
    parts: dict[str, list[Tensor]] = {"image": [], "log_sd": []}
    for indices in filled.split(batch_size):
        slices = windows[indices].to(
            device, memory_format=torch.channels_last
        )  # (N, context, H, W)
        place = torch.from_numpy(positions(to_mni, source.shape, plane, indices.numpy()))
        number = torch.full((len(slices),), PLANES.index(plane), device=device)
        translation = network(slices, number, place.to(device))
        for name, found in parts.items():
            if (values := getattr(translation, name)) is not None:
                found.append(values.cpu())  # (N, C, H, W)
    image, log_sd = (
        _assembled(torch.cat(found), filled, len(stack), plane) if found else None
        for found in parts.values()
    )
    return View(plane, image, log_sd)


def _assembled(slices: Tensor, indices: Tensor, n: int, plane: str) -> NDArray[np.float32]:
    """Volume (X, Y, Z, C) of n slices, of which these (N, C, H, W) are given and the others 0."""
    every = slices.new_zeros(n, *slices.shape[1:])
    every[indices] = slices
    return np.stack([assemble(c, plane) for c in every.movedim(1, 0).numpy()], axis=-1)
