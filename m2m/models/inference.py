"""Apply a trained network to a whole volume: slices in batches, orientations fused."""

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
from m2m.networks.layout import placed
from m2m.options import Trained
from m2m.structural.slices import PLANES, assemble, extract, positions

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(requested: Device = "auto") -> str:
    """Choose the device to compute on: the requested one, or the best of this machine.

    Raises
    ------
    DataError
        This machine does not have the requested device.
    """
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = [name for name, available in accelerators.items() if available] + ["cpu"]
    if requested not in ("auto", *found):
        raise DataError(
            "this machine does not have the device",
            value=requested,
            remedy=f"choose auto or one of: {', '.join(found)}",
        )
    return found[0] if requested == "auto" else requested


def views_of(options: Trained, target: str) -> dict[str, Any]:
    """Arguments of `translate_volume` for a model: context, planes, mirror and whole."""
    mirror = MODALITIES[target].mirror if options.mirror else None
    whole = options.stack is not None
    return {"context": options.window.context, "planes": options.planes, "mirror": mirror, "whole": whole}


@torch.inference_mode()
def deformed_prior(
    network: nn.Module, to_mni: NDArray[np.float64], affine: NDArray[np.float64], displacement: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Resample the prior of a network to a participant's grid by the deformation of the template to the T1.

    Parameters
    ----------
    network : Module
        With a prior of one channel among its inputs.
    to_mni : ndarray, shape (4, 4)
        From world mm to MNI152 mm.
    affine : ndarray, shape (4, 4)
        Of the grid, from voxels to world mm.
    displacement : ndarray, shape (X, Y, Z, 3)
        From the T1 to the template, on the same grid, world mm.

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Scaled.
    """
    prior = network.get_submodule("inputs.prior").cpu()
    slabs = []
    for i, by_slab in enumerate(displacement):  # the coordinates of a whole volume take three times its memory
        voxels = np.moveaxis(np.indices(by_slab.shape[:2]), 0, -1)
        world = affine[:3, 0] * i + voxels @ affine[:3, 1:3].T + affine[:3, 3] + by_slab
        mni = torch.from_numpy((world @ to_mni[:3, :3].T + to_mni[:3, 3]).astype(np.float32))
        slabs.append(prior(mni.movedim(-1, 0)[None])[0, 0].numpy())
    return np.stack(slabs)


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
    low_res: NDArray[np.float32] | None = None,
    fuse: Fuse = average,
    whole: bool = False,
) -> Prediction:
    """Translate a volume slice by slice in each orientation, and fuse the results.

    Parameters
    ----------
    network : Module
        Called with slices (N, context, H, W), orientations (N,) and MNI152 mm (N, 3, H, W).
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
    device : str
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
    network = placed(network, device)
    volumes: list[tuple[NDArray, NDArray | None, NDArray, NDArray | None]] = [(source, low_res, to_mni, None)]
    if mirror is not None:
        mirrored_to_mni, factors = mirror_affine(to_mni, len(source)), np.asarray(mirror, np.float32)
        volumes.append((source[::-1], None if low_res is None else low_res[::-1], mirrored_to_mni, factors))

    def views() -> Iterator[View]:
        for image, low, affine, factors in volumes:
            for plane in planes:
                at_once = len(extract(image, plane)) if whole else batch_size
                view = _translate_plane(network, image, low, affine, plane, context, at_once, device)
                yield view if factors is None else _mirror_back(view, factors)

    image, sds = fuse(views(), source != 0)  # (X, Y, Z, C)
    if image.shape[-1] == 1:
        image, sds = image[..., 0], {name: sd[..., 0] for name, sd in sds.items()}
    return Prediction(image, sds)


def _mirror_back(view: View, factors: NDArray[np.float32]) -> View:
    """Mirror the view of a mirrored volume back."""
    log_sd, sample_sd = (None if sd is None else sd[::-1] for sd in (view.log_sd, view.sample_sd))
    return View(view.plane, view.image[::-1] * factors, log_sd, sample_sd)


def mirror_affine(to_mni: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Affine to mirrored MNI152 mm of a volume whose first axis, of `width` voxels, is reversed."""
    reverse = np.diag([-1.0, 1, 1, 1])
    reverse[0, 3] = width - 1
    return np.diag([-1.0, 1, 1, 1]) @ to_mni @ reverse


@torch.inference_mode()
def _translate_plane(
    network: nn.Module,
    source: NDArray[np.float32],
    low_res: NDArray[np.float32] | None,
    to_mni: NDArray[np.float64],
    plane: str,
    context: int,
    batch_size: int,
    device: str,
) -> View:
    """Translate the slices of one orientation.

    Where the source is 0 in a slice and its neighbours, the volumes are 0.
    """
    stack = torch.from_numpy(np.ascontiguousarray(extract(source, plane)))  # (n, H, W)
    edge = stack.new_zeros(context // 2, *stack.shape[1:])
    windows = torch.cat([edge, stack, edge]).unfold(0, context, 1).movedim(-1, 1)
    filled = windows.flatten(1).any(dim=1).nonzero()[:, 0]  # of (n, context, H, W)
    if low_res is not None:
        low_stack = torch.from_numpy(np.ascontiguousarray(extract(low_res, plane)))[:, None]
        windows = torch.cat([windows, low_stack], 1)  # (n, context + 1, H, W)
    parts: dict[str, list[Tensor]] = {"image": [], "log_sd": [], "sample_sd": []}
    for indices in filled.split(batch_size):
        slices = windows[indices].to(device, memory_format=torch.channels_last)  # (N, context, H, W)
        position = torch.from_numpy(positions(to_mni, source.shape, plane, indices.numpy()))
        orientation = torch.full((len(slices),), PLANES.index(plane), device=device)
        translation = network(slices, orientation, position.to(device))
        for name, found in parts.items():
            if (values := getattr(translation, name)) is not None:
                found.append(values.cpu())  # (N, C, H, W)
    volumes = {
        name: _assemble_volume(torch.cat(found), filled, len(stack), plane) for name, found in parts.items() if found
    }
    return View(plane, volumes["image"], volumes.get("log_sd"), volumes.get("sample_sd"))


def _assemble_volume(slices: Tensor, indices: Tensor, n: int, plane: str) -> NDArray[np.float32]:
    """Volume (X, Y, Z, C) of n slices: those at `indices` (N, C, H, W), and 0 elsewhere."""
    stack = slices.new_zeros(n, *slices.shape[1:])
    stack[indices] = slices
    return np.stack([assemble(c, plane) for c in stack.movedim(1, 0).numpy()], axis=-1)
