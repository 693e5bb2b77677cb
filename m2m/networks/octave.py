"""Octave encoder and decoder: T1 slices to a microstructure slice in two frequency bands.

Features have two branches: *high* at the resolution of a level, and *low* at half of it. An
octave convolution exchanges information between them.

References
----------
Chen et al. (2019), Drop an Octave, ICCV, https://doi.org/10.1109/ICCV.2019.00353.
Kim et al. (2024), Macro2Micro, arXiv:2412.11277.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.networks.activation import activate
from m2m.networks.resampling import double, halve
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation


class Octave(NamedTuple):
    """Features of one level; `low` is None in a network without a low branch (alpha = 0)."""

    high: Tensor
    low: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Octave":
        """Apply a function to each branch."""
        return Octave(function(self.high), None if self.low is None else function(self.low))

    def __add__(self, other: "Octave") -> "Octave":  # type: ignore[override]  # a tuple's + concatenates
        """Sum of two features, branch by branch."""
        low = None if self.low is None or other.low is None else self.low + other.low
        return Octave(self.high + other.high, low)


def low_channels(channels: int, alpha: float) -> int:
    """Channels of the low branch: the share `alpha`, rounded; the high branch keeps at least one."""
    return min(round(alpha * channels), channels - 1)


def convolutions(module: nn.Module) -> Iterator[nn.Conv2d]:
    """Iterate over the convolutions of a module."""
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


class OctaveConv2d(nn.Module):
    """Convolution of both branches, with exchange between them.

    high' = HH(high) + double(LH(low)); low' = LL(low) + HL(halve(high)).

    Parameters
    ----------
    in_channels, out_channels : (int, int)
        Channels of the high and of the low branch; 0: no low branch.
    kernel : int
        Side of the kernel, odd; padding keeps the size of the image.
    stride : int
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Zeros suit images with a background of 0.
    exchange : int or None
        Side of the kernels between the branches; None: `kernel`.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        out_channels: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        exchange: int | None = None,
    ):
        super().__init__()

        def convolution(inputs: int, outputs: int, side: int = kernel) -> nn.Conv2d | None:
            if not inputs or not outputs:
                return None
            return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False, padding_mode=padding_mode)

        (high_in, low_in), (high_out, low_out) = in_channels, out_channels
        self.high_to_high = convolution(high_in, high_out)
        self.high_to_low = convolution(high_in, low_out, exchange or kernel)
        self.low_to_high = convolution(low_in, high_out, exchange or kernel)
        self.low_to_low = convolution(low_in, low_out)

    def forward(self, x: Octave) -> Octave:
        """Map (N, C, H, W) and (N, c, H / 2, W / 2) to other numbers of channels."""
        assert self.high_to_high is not None  # every layer has a high branch
        high, low = self.high_to_high(x.high), None  # (N, C', H, W)
        if self.low_to_high:
            high = high + double(self.low_to_high(x.low))  # (N, C', H, W)
        if self.high_to_low:
            low = self.high_to_low(halve(x.high))  # (N, c', H/2, W/2)
        if self.low_to_low:
            low = low + self.low_to_low(x.low)  # (N, c', H/2, W/2)
        return Octave(high, low)


class PlaneNorm(nn.Module):
    """Instance normalisation of one branch, with a scale and a shift for each slice orientation.

    Each channel of each slice is normalised separately: no statistics of the batch.
    """

    def __init__(self, channels: int, planes: int):
        super().__init__()
        self.norm = nn.GroupNorm(channels, channels, affine=False)
        self.scale = nn.Embedding.from_pretrained(torch.ones(planes, channels), freeze=False)
        self.shift = nn.Embedding.from_pretrained(torch.zeros(planes, channels), freeze=False)

    def forward(self, x: Tensor, plane: Tensor) -> Tensor:
        """Normalise (N, C, H, W), given orientations (N,)."""
        scale = self.scale(plane)[:, :, None, None]  # (N, C, 1, 1)
        shift = self.shift(plane)[:, :, None, None]  # (N, C, 1, 1)
        return torch.addcmul(shift, self.norm(x), scale)  # (N, C, H, W)


class OctaveNorm(nn.Module):
    """Normalisation of both branches, each separately."""

    def __init__(self, channels: tuple[int, int], planes: int):
        super().__init__()
        high, low = channels
        self.high = PlaneNorm(high, planes)
        self.low = PlaneNorm(low, planes) if low else None

    def forward(self, x: Octave, plane: Tensor) -> Octave:
        """Normalise (N, C, H, W) and (N, c, H / 2, W / 2)."""
        return Octave(self.high(x.high, plane), self.low(x.low, plane) if self.low else None)


class OctaveBlock(nn.Module):
    """Residual block: normalisation, activation and convolution, twice.

    Kernels between the branches are 1 x 1, which saves a quarter of the computation.

    References
    ----------
    He et al. (2016), Identity mappings in deep residual networks, arXiv:1603.05027.
    """

    def __init__(self, channels: tuple[int, int], planes: int):
        super().__init__()
        self.norms = nn.ModuleList(OctaveNorm(channels, planes) for _ in range(2))
        self.first = OctaveConv2d(channels, channels, exchange=1)
        self.second = OctaveConv2d(channels, channels, exchange=1)

    def forward(self, x: Octave, plane: Tensor) -> Octave:
        """Refine (N, C, H, W) and (N, c, H / 2, W / 2), keeping the shapes."""
        y = self.first(self.norms[0](x, plane).map(activate))  # (N, C, H, W), (N, c, H/2, W/2)
        return x + self.second(self.norms[1](y, plane).map(activate))  # the same shapes


class OctaveTranslator(nn.Module):
    """U-shaped octave network: one slice of the target from neighbouring slices of the source.

    The encoder halves both branches from level to level. The decoder doubles them and adds the
    encoder's features of the same level, branch by branch. The high branch gives the
    high-frequency part of the image, the low branch (without one: the halved high branch) the
    low-frequency part; the image is their sum. Outputs are linear: they are not limited to the
    range of the target, so gradients do not vanish at its ends.

    Parameters
    ----------
    inputs : SliceInputs
        Input channels: source slices, position, prior.
    widths : sequence of int
        Channels of each level (both branches together), fine to coarse; two levels or more.
    alpha : float
        Share of the channels in the low branch, 0 (a plain convolutional network) to below 1.
    out_channels : int
        Channels of the target.
    planes : int
        Number of slice orientations.
    spread : bool
        Whether it also predicts the standard deviation of its error. That head receives features
        without gradient: training it does not change the image.
    entry : bool
        Whether the encoder has a block at the finest level, the most expensive block of all.
    residual : bool
        Whether the image is the sum of the prior, the last of the inputs, and of what the heads give.

    Raises
    ------
    ValueError
        Alpha is out of range, or widths are too few or too small.
    """

    def __init__(
        self,
        inputs: SliceInputs,
        widths: Sequence[int],
        alpha: float = 0.5,
        out_channels: int = 1,
        planes: int = 3,
        spread: bool = False,
        entry: bool = True,
        residual: bool = False,
    ):
        super().__init__()
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must be at least 0 and below 1, got {alpha}")
        if len(widths) < 2 or min(widths) < 2:
            raise ValueError(f"widths must be two or more numbers of at least 2, got {widths}")
        levels = [(width - low_channels(width, alpha), low_channels(width, alpha)) for width in widths]
        self.multiple, self.residual = 2 ** len(levels), residual
        self.inputs = inputs
        self.stem = OctaveConv2d((inputs.channels, 0), levels[0])
        self.down = nn.ModuleList(OctaveConv2d(fine, coarse) for fine, coarse in pairwise(levels))
        self.entry = OctaveBlock(levels[0], planes) if entry else None
        self.encode = nn.ModuleList(OctaveBlock(level, planes) for level in levels[1:])
        self.up = nn.ModuleList(OctaveConv2d(coarse, fine, kernel=1) for fine, coarse in pairwise(levels))
        self.decode = nn.ModuleList(OctaveBlock(level, planes) for level in levels[:-1])
        high, low = levels[0]
        self.high_head = nn.Conv2d(high, out_channels, 3, padding=1)
        self.low_head = nn.Conv2d(low or high, out_channels, 3, padding=1)
        self.spread_head = (
            nn.Sequential(
                nn.Conv2d(high + low, 8, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(8, out_channels, 1),
            )
            if spread
            else None
        )
        self._initialise()

    def _initialise(self) -> None:
        """Initialise: the stem keeps the size of its input, residual branches and heads start small, or at 0."""
        for convolution in convolutions(self.stem):
            nn.init.kaiming_normal_(convolution.weight, a=0.2)
        for block in (module for module in self.modules() if isinstance(module, OctaveBlock)):
            for convolution in convolutions(block.second):
                convolution.weight.data *= 0.3
        for head in (self.high_head, self.low_head):
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.0 if self.residual else 0.01)
            nn.init.zeros_(head.bias)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices of any height and width.

        Parameters
        ----------
        source : Tensor, shape (N, context, H, W)
            Scaled source, 0 outside the brain.
        plane : Tensor of int64, shape (N,)
            Orientation of each slice, 0 to planes - 1.
        position : Tensor, shape (N, 3, H, W)
            MNI152 mm of each pixel.

        Returns
        -------
        Translation
            Image, low and high band, each (N, out_channels, H, W), in units of the target, unbounded.
        """
        height, width = source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        channels = F.pad(self.inputs(source, plane, position), pad)  # (N, inputs.channels, H', W')
        x = self.stem(Octave(channels, None))  # (N, C0, H', W'), (N, c0, H'/2, W'/2)
        x, skips = self.entry(x, plane) if self.entry else x, []
        for down, encode in zip(self.down, self.encode, strict=True):
            skips.append(x)  # (N, Ci, H'/2^i, W'/2^i), low at half of that
            x = encode(down(x.map(halve)), plane)  # (N, Ci+1, H'/2^(i+1), W'/2^(i+1)), low at half
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = up(x).map(double) + skips.pop()  # (N, Ci, H'/2^i, W'/2^i), low at half
            x = decode(x, plane)  # (N, Ci, H'/2^i, W'/2^i), low at half
        x = x.map(activate)  # (N, C0, H', W'), (N, c0, H'/2, W'/2)
        high = self.high_head(x.high)  # (N, out, H', W')
        low = self.low_head(halve(x.high) if x.low is None else x.low)  # (N, out, H'/2, W'/2)
        if self.residual:
            prior = channels[:, -high.shape[1] :]  # (N, out, H', W')
            low = low + halve(prior)
            high = high + prior - F.interpolate(halve(prior), scale_factor=2, mode="bilinear")
        low = F.interpolate(low, scale_factor=2, mode="bilinear")  # (N, out, H', W')
        high, low = high[..., :height, :width], low[..., :height, :width]  # (N, out, H, W)
        return Translation(low + high, low, high, self._log_sd(x, height, width))

    def _log_sd(self, x: Octave, height: int, width: int) -> Tensor | None:
        """Logarithm of the standard deviation of the error, (N, out, H, W)."""
        if self.spread_head is None:
            return None
        branches = [halve(x.high)] if x.low is None else [halve(x.high), x.low]
        features = torch.cat(branches, dim=1).detach()  # (N, C0 + c0, H'/2, W'/2)
        log_sd = F.interpolate(self.spread_head(features), scale_factor=2, mode="bilinear")
        return log_sd[..., :height, :width]  # (N, out, H, W)
