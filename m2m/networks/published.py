"""The early public Macro2Micro (2023) as published, for comparison.

Written from its description: an octave encoder and a decoder without activations, which is an
affine map of the encoder's features. It has no skip connections and no normalisation, and its
input is one slice. The discriminator is the residual one of StyleGAN2.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277, and its public code of 2023.
Karras et al. (2020), https://doi.org/10.1109/CVPR42600.2020.00813.
"""

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from m2m.networks.activation import activate
from m2m.networks.octave import Octave, OctaveConv2d
from m2m.networks.resampling import double
from m2m.networks.translation import Translation

CHANNELS = (64, 128, 256)  # of both branches together; each has half of them


def _halves(channels: int) -> tuple[int, int]:
    """Channels of the high and of the low branch."""
    return channels // 2, channels // 2


class DepthwiseOctave(nn.Module):
    """Depthwise 3 x 3 convolution of each branch, without exchange between them."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.high, self.low = (
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False, padding_mode="reflect")
            for half in _halves(channels)
        )

    def forward(self, x: Octave) -> Octave:
        """Filter (N, C, H, W) and (N, C, H / 2, W / 2)."""
        return Octave(self.high(x.high), self.low(x.low))


class PublishedTranslator(nn.Module):
    """The generator of 2023: 221 k parameters, 2.6 GMAC for a slice of 256 x 256 pixels.

    Parameters
    ----------
    out_channels : int
        Channels of the target.
    """

    multiple = 8

    def __init__(self, out_channels: int = 1):
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.stem = nn.Conv2d(1, fine, 7, padding=3, bias=False, padding_mode="reflect")
        self.encode = nn.ModuleList(
            [
                OctaveConv2d((fine, 0), _halves(fine), 3, stride=2, padding_mode="reflect"),
                OctaveConv2d(_halves(fine), _halves(middle), 1),
                DepthwiseOctave(middle, stride=2),
                OctaveConv2d(_halves(middle), _halves(coarse), 1),
            ]
        )
        self.decode = nn.ModuleList()
        for wide, narrow in pairwise(reversed(CHANNELS)):
            filters = DepthwiseOctave(wide), OctaveConv2d(_halves(wide), _halves(narrow), 1)
            high, low = (
                nn.Conv2d(half, half, 3, padding=1, bias=False, padding_mode="reflect") for half in _halves(narrow)
            )
            self.decode.append(nn.ModuleList([*filters, high, low]))
        self.last = DepthwiseOctave(fine)
        self.high, self.low = (nn.Conv2d(h, h, 1, bias=False) for h in _halves(fine))
        self.head = nn.Conv2d(fine // 2, out_channels, 1, bias=False)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices.

        Parameters
        ----------
        source : Tensor, shape (N, 1, H, W)
            Scaled source, 0 outside the brain.
        plane : Tensor of int64, shape (N,)
            Orientation of each slice; not used.
        position : Tensor, shape (N, 3, H, W)
            MNI152 mm of each pixel; not used.

        Returns
        -------
        Translation
            Image, low and high band, each (N, out_channels, H, W).
        """
        height, width = source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x = Octave(self.stem(F.pad(source, pad)), None)  # (N, 64, H', W')
        for layer in self.encode:
            x = layer(x).map(activate)  # finally (N, 128, H'/4, W'/4) and (N, 128, H'/8, W'/8)
        for layers in self.decode:
            depthwise, mix, filter_high, filter_low = cast(nn.ModuleList, layers)
            x = mix(depthwise(x)).map(double)  # (N, 64, H'/2, ...), then (N, 32, H', W')
            x = Octave(filter_high(x.high), filter_low(x.low))
        x = self.last(x)  # (N, 32, H', W') and (N, 32, H'/2, W'/2)
        high, low = self.high(x.high), double(self.low(x.low))  # each (N, 32, H', W')
        images = (self.head(part)[..., :height, :width] for part in (high + low, low, high))
        return Translation(*images)  # each (N, out, H, W)
