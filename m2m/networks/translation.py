"""What a translator gives: the image, and what else it says of it."""

from typing import NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """Output of a translator, each of shape (N, out_channels, H, W).

    Attributes
    ----------
    image : Tensor
    low, high : Tensor or None
        The image's two bands, whose sum it is, of a network that has bands.
    log_sd : Tensor or None
        Logarithm of the standard deviation of the image's error, of a network that predicts it.
    """

    image: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    log_sd: Tensor | None = None
