"""A trained network on a whole volume: orientations averaged, a batch of slices at a time."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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


def build_network(options: Macro2Micro) -> nn.Module:
    """Build the translator of a family's options, one channel in (per slice) and one out."""
    network = options.network
    return OctaveTranslator(
        network.context, network.widths, network.alpha, out_channels=1, planes=len(PLANES)
    )


def load_network(tensors: Mapping[str, NDArray], options: Mapping[str, Any]) -> nn.Module:
    """Build the network of a record's options and give it its weights."""
    network = build_network(Macro2Micro.model_validate(options))
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
        Called with slices (N, context, H, W) and orientations (N,); its ``image`` is (N, 1, H, W).
    source : ndarray, shape (X, Y, Z)
        Normalised, 0 outside the brain.
    context : int
        Neighbouring slices seen, an odd number; beyond the volume they are 0.
    planes : sequence of str
    batch_size : int
    device : str

    Returns
    -------
    ndarray, shape (X, Y, Z)
        As the network gives it: not clipped.
    """
    network = network.to(device)
    total = np.zeros(source.shape, dtype=np.float32)
    for plane in planes:
        stack = torch.from_numpy(np.ascontiguousarray(extract(source, plane)))  # (n, H, W)
        edge = stack.new_zeros(context // 2, *stack.shape[1:])
        windows = torch.cat([edge, stack, edge]).unfold(0, context, 1)  # (n, H, W, context)
        images = []
        for slices in windows.movedim(-1, 1).split(batch_size):  # (N, context, H, W)
            number = torch.full((len(slices),), PLANES.index(plane), device=device)
            images.append(network(slices.to(device), number).image.cpu()[:, 0])  # (N, H, W)
        total += assemble(torch.cat(images).numpy(), plane)  # (X, Y, Z)
    return total / len(planes)
