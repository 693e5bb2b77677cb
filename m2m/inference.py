"""A trained network on a whole volume: orientations averaged, a batch of slices at a time."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from m2m.modalities import MODALITIES
from m2m.networks.octave import OctaveTranslator
from m2m.options import Macro2Micro
from m2m.slices import PLANES, assemble, extract

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(wanted: Device = "auto") -> str:
    """Name the device to compute on: the one wanted, or the best that this machine has."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def build_network(options: Macro2Micro, channels: int = 1) -> nn.Module:
    """Build the translator of a family's options: one channel in per slice, `channels` out."""
    network = options.network
    return OctaveTranslator(
        network.context, network.widths, network.alpha, channels, planes=len(PLANES)
    )


def load_network(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> nn.Module:
    """Build the network of a model's record and give it its weights."""
    channels = len(MODALITIES[record["target"]].channels)
    network = build_network(Macro2Micro.model_validate(record["options"]), channels)
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    return network.eval()


@torch.inference_mode()
def translate_volume(
    network: nn.Module,
    source: NDArray[np.float32],
    *,
    context: int,
    planes: Sequence[str],
    batch_size: int,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Translate a volume slice by slice in each orientation, and average the orientations.

    Memory: the volume, its sum over orientations and a batch of slices, whatever their number.

    Parameters
    ----------
    network : Module
        Called with slices (N, context, H, W) and orientations (N,); its ``image`` is (N, C, H, W).
    source : ndarray, shape (X, Y, Z)
        Scaled, 0 outside the brain.
    context : int
        Neighbouring slices seen, an odd number; beyond the volume they are 0.
    planes : sequence of str
    batch_size : int
    device : str

    Returns
    -------
    ndarray, shape (X, Y, Z), or (X, Y, Z, C) where the network gives several channels
        As the network gives it: not clipped.
    """
    network, total = network.to(device), 0.0
    for plane in planes:
        stack = torch.from_numpy(np.ascontiguousarray(extract(source, plane)))  # (n, H, W)
        edge = stack.new_zeros(context // 2, *stack.shape[1:])
        windows = torch.cat([edge, stack, edge]).unfold(0, context, 1)  # (n, H, W, context)
        images = []
        for slices in windows.movedim(-1, 1).split(batch_size):  # (N, context, H, W)
            number = torch.full((len(slices),), PLANES.index(plane), device=device)
            images.append(network(slices.to(device), number).image.cpu())  # (N, C, H, W)
        stacks = torch.cat(images).movedim(1, 0).numpy()  # (C, n, H, W)
        total = total + np.stack([assemble(stack, plane) for stack in stacks], -1)  # (X, Y, Z, C)
    mean = total / np.float32(len(planes))  # (X, Y, Z, C)
    return mean if mean.shape[-1] > 1 else mean[..., 0]
