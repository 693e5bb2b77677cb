"""The activation of the octave networks."""

import torch.nn.functional as F
from torch import Tensor


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, slope 0.2 below zero."""
    return F.leaky_relu(x, 0.2)
