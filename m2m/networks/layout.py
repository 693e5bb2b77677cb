"""Order of a network's weights in memory: channels last, in which convolutions of slices are fastest on a CPU."""

from typing import TypeVar

import torch
from torch import nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def placed(network: NetworkT, device: str | torch.device) -> NetworkT:
    """Move a network to a device, with channels last; one of volumes keeps its order, which is of five axes.

    Parameters
    ----------
    network : Module
    device : str or device

    Returns
    -------
    Module
        The same.
    """
    if any(weight.dim() > 4 for weight in network.parameters()):
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub lacks it
