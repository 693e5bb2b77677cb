"""Output of a translator: the image, its frequency bands and its predicted error."""

from typing import NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """Output of a translator, each of shape (N, out_channels, H, W).

    Attributes
    ----------
    image : Tensor
    low, high : Tensor or None
        Low- and high-frequency band, whose sum is the image; None for a network without bands.
    log_sd : Tensor or None
        Logarithm of the predicted standard deviation of the error; None if not predicted.
    sample_sd : Tensor or None
        Standard deviation over samples of a network that draws several, whose mean the image is; None for others.
    """

    image: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    log_sd: Tensor | None = None
    sample_sd: Tensor | None = None
