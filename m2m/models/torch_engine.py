"""Run a network by PyTorch, and choose the device to compute on."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from m2m.io.errors import DataError
from m2m.models.inference import Engine, Slices
from m2m.networks.layout import placed

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


def torch_engine(network: nn.Module, device: str = "cpu") -> Engine:
    """Run a network by PyTorch.

    Parameters
    ----------
    network : Module
        Called with slices (N, context, H, W), orientations (N,) and MNI152 mm (N, 3, H, W); it is moved to the device.
    device : str

    Returns
    -------
    callable
    """
    network = placed(network, device)

    @torch.inference_mode()
    def run(source: NDArray[np.float32], plane: NDArray[np.int64], position: NDArray[np.float32]) -> Slices:
        slices = torch.from_numpy(source).to(device, memory_format=torch.channels_last)
        output = network(slices, torch.from_numpy(plane).to(device), torch.from_numpy(position).to(device))
        of_error = (getattr(output, name) for name in Slices._fields[1:])
        return Slices(output.image.cpu().numpy(), *(None if sd is None else sd.cpu().numpy() for sd in of_error))

    return run
