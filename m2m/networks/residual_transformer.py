"""Residual vision transformer: convolutions and a transformer in the bottleneck of an encoder and decoder.

References
----------
Dalmaz et al. (2022), ResViT, https://doi.org/10.1109/TMI.2022.3167808. Dosovitskiy et al. (2021), vision
transformer, arXiv:2010.11929. Written from the descriptions.
"""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation

# Longest wave of the tokens' places, in tokens over 2 pi.
LONGEST = 1000.0


def normalised(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, instance normalisation and rectifier.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side, odd.
    stride : int

    Returns
    -------
    Sequential
    """
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())


def doubled(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed convolution to twice the resolution, normalised; inputs and outputs are channels."""
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())


def token_places(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """Sines and cosines of row and column, (h, w, channels): a place for any size of a slice.

    Parameters
    ----------
    rows, columns : Tensor, shapes (h,) and (w,)
    channels : int
        A multiple of 4.

    Returns
    -------
    Tensor
    """
    rates = LONGEST ** -(torch.arange(channels // 4, device=rows.device) / (channels // 4))  # (channels / 4,)
    down, along = rows[:, None, None] * rates, columns[None, :, None] * rates
    # Shapes, since a trace of `len` would fix the size.
    down, along = down.expand(-1, columns.shape[0], -1), along.expand(rows.shape[0], -1, -1)  # (h, w, channels / 4)
    return torch.cat([down.sin(), down.cos(), along.sin(), along.cos()], -1)


class TransformerLayer(nn.Module):
    """Attention between tokens, then a perceptron, each as a residual branch of normalised features.

    Parameters
    ----------
    channels, heads : int
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.queries, self.join = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.feed = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (N, n, C)."""
        first, second = self.norms
        parts = self.queries(first(x)).unflatten(-1, (3, self.heads, -1))  # (N, n, 3, heads, C / heads)
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))  # each (N, heads, n, C / heads)
        x = x + self.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # (N, n, C)
        return x + self.feed(second(x))  # (N, n, C)


class Transformer(nn.Module):
    """Layers of attention between all pixels of a coarse map.

    Parameters
    ----------
    channels, heads, layers : int
    """

    def __init__(self, channels: int, heads: int, layers: int):
        super().__init__()
        self.layers = nn.Sequential(*(TransformerLayer(channels, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, C, h, w)."""
        rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
        tokens = x.movedim(1, -1) + token_places(rows, columns, x.shape[1])  # (N, h, w, C)
        tokens = self.norm(self.layers(tokens.flatten(1, 2)))  # (N, h w, C)
        return tokens.transpose(1, 2).unflatten(-1, x.shape[-2:])  # (N, C, h, w)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int):
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.branch = nn.Sequential(normalised(channels, channels), last, nn.InstanceNorm2d(channels, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        """Refine (N, C, H, W)."""
        return x + self.branch(x)


class AggregatedBlock(nn.Module):
    """Aggregated residual transformer block: what the transformer finds joins the features, then convolutions.

    The map is made coarser, transformed and made finer again; these features and the block's input together are
    compressed to the block's number of channels.

    Parameters
    ----------
    channels : int
    reduce : int
        Halvings before the transformer.
    """

    def __init__(self, channels: int, reduce: int):
        super().__init__()
        self.down = nn.Sequential(*(normalised(channels, channels, stride=2) for _ in range(reduce)))
        self.up = nn.Sequential(*(doubled(channels, channels) for _ in range(reduce)))
        self.compress = normalised(2 * channels, channels, 1)
        self.refine = ResidualBlock(channels)

    def forward(self, x: Tensor, transformer: nn.Module) -> Tensor:
        """Refine (N, C, H, W)."""
        context = self.up(transformer(self.down(x)))  # (N, C, H, W)
        return self.refine(self.compress(torch.cat([x, context], 1)))  # (N, C, H, W)


class ResVitTranslator(nn.Module):
    """One slice of the target from neighbouring slices of the source.

    Parameters
    ----------
    inputs : SliceInputs
        Input channels: source slices, position, prior.
    widths : sequence of 3 int
        Channels at full, half and quarter resolution.
    blocks : int
        Of the bottleneck, at quarter resolution.
    transformers : collection of int
        Which of them have a transformer, from 0; all share its weights.
    layers, heads : int
        Of the transformer.
    reduce : int
        Halvings before the transformer.
    out_channels : int
        Channels of the target.
    """

    def __init__(
        self,
        inputs: SliceInputs,
        widths: Sequence[int],
        blocks: int = 9,
        transformers: Collection[int] = (0, 5),
        layers: int = 4,
        heads: int = 4,
        reduce: int = 1,
        out_channels: int = 1,
    ):
        super().__init__()
        full, half, quarter = widths
        self.inputs, self.multiple = inputs, 4 * 2**reduce
        self.encode = nn.Sequential(
            normalised(inputs.channels, full, 7), normalised(full, half, stride=2), normalised(half, quarter, stride=2)
        )
        self.transformer = Transformer(quarter, heads, layers) if transformers else None
        self.blocks = nn.ModuleList(
            AggregatedBlock(quarter, reduce) if i in transformers else ResidualBlock(quarter) for i in range(blocks)
        )
        self.decode = nn.Sequential(
            doubled(quarter, half), doubled(half, full), nn.Conv2d(full, out_channels, 7, padding=3)
        )

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices.

        Parameters
        ----------
        source : Tensor, shape (N, context, H, W)
            Scaled source, 0 outside the brain.
        plane : Tensor of int64, shape (N,)
            Orientation of each slice, for a prior of tensors.
        position : Tensor, shape (N, 3, H, W)
            MNI152 mm of each pixel.

        Returns
        -------
        Translation
            Image (N, out_channels, H, W), unbounded.
        """
        height, width = source.shape[-2:]
        channels = self.inputs(source, plane, position)  # (N, inputs.channels, H, W)
        x = self.encode(F.pad(channels, (0, -width % self.multiple, 0, -height % self.multiple)))  # (N, C2, H'/4, W'/4)
        for block in self.blocks:
            x = block(x, self.transformer) if isinstance(block, AggregatedBlock) else block(x)  # the same shape
        return Translation(self.decode(x)[..., :height, :width])  # (N, out, H, W)
