"""U-shaped Restormer: T1 slices to a slice of the target, by attention between channels.

References
----------
Zamir et al. (2022), Restormer, CVPR, https://doi.org/10.1109/CVPR52688.2022.00564.
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation


class ChannelNorm(nn.Module):
    """Layer normalisation of the vector of channels at each pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, C, H, W)


def conv3(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    """Build a convolution of 3 x 3 pixels that keeps the size.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    groups : int

    Returns
    -------
    Conv2d
    """
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)


class TransposedAttention(nn.Module):
    """Attention between channels (MDTA); its cost is linear in the number of pixels.

    Parameters
    ----------
    channels, heads : int
    queries : Module or None
        Maps (N, channels, H, W) to queries, keys and values (N, 3 channels, H, W); by default a
        1 x 1 and a depthwise 3 x 3 convolution.

    Raises
    ------
    ValueError
        The channels cannot be divided among the heads.
    """

    def __init__(self, channels: int, heads: int, queries: nn.Module | None = None):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} heads")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.queries = queries or nn.Sequential(
            nn.Conv2d(channels, 3 * channels, 1, bias=False),
            conv3(3 * channels, 3 * channels, groups=3 * channels),
        )
        self.last = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to (N, C, H, W)."""
        q, k, v = (
            part.unflatten(1, (self.heads, -1)).flatten(3) for part in self.queries(x).chunk(3, 1)
        )  # each (N, heads, C / heads, H W)
        q, k = (F.normalize(part.float(), dim=-1).to(v.dtype) for part in (q, k))
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)  # (N, heads, C / heads, C / heads)
        return self.last((weights @ v).flatten(1, 2).unflatten(-1, x.shape[-2:]))  # (N, C, H, W)


class GatedFeedForward(nn.Module):
    """Feed-forward network of two branches, one of which gates the other (GDFN)."""

    def __init__(self, channels: int, expansion: float):
        super().__init__()
        hidden = int(channels * expansion)
        self.first = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = conv3(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.last = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, C, H, W)."""
        gate, values = self.depthwise(self.first(x)).chunk(2, 1)  # each (N, hidden, H, W)
        return self.last(F.gelu(gate) * values)  # (N, C, H, W)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each as a residual branch of normalised features.

    Parameters
    ----------
    channels, heads : int
    expansion : float
        Hidden channels of the feed-forward network over its channels.
    queries : Module or None
        As for `TransposedAttention`.
    """

    def __init__(self, channels: int, heads: int, expansion: float, queries: nn.Module | None = None):
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(2))
        self.attend = TransposedAttention(channels, heads, queries)
        self.feed = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, C, H, W)."""
        first, second = self.norms
        x = x + self.attend(first(x))  # (N, C, H, W)
        return x + self.feed(second(x))  # (N, C, H, W)


class RestormerTranslator(nn.Module):
    """One slice of the target from neighbouring slices of the source.

    Parameters
    ----------
    inputs : SliceInputs
        Input channels: source slices, position, prior.
    widths : sequence of int
        Channels of each level, fine to coarse; even, and from the second level on multiples of 4.
    heads : sequence of int
        Heads of the attention of each level.
    blocks : int
        Transformer blocks of each level, in the encoder and in the decoder.
    expansion : float
        Hidden channels of a feed-forward network over its channels.
    out_channels : int
        Channels of the target.

    Raises
    ------
    ValueError
        The numbers of widths and heads differ, or a width cannot be halved or split as needed.
    """

    def __init__(
        self,
        inputs: SliceInputs,
        widths: Sequence[int],
        heads: Sequence[int],
        blocks: int = 2,
        expansion: float = 2.66,
        out_channels: int = 1,
    ):
        super().__init__()
        if len(widths) != len(heads):
            raise ValueError(f"{len(widths)} widths and {len(heads)} heads: one for each level")
        if widths[0] % 2 or any(width % 4 for width in widths[1:]):
            raise ValueError(f"widths must be even, and from the second on multiples of 4: {widths}")
        self.inputs, self.widths = inputs, tuple(widths)
        self.multiple = 2 ** (len(widths) - 1)

        def level(width: int, n_heads: int) -> nn.Sequential:
            return nn.Sequential(*(TransformerBlock(width, n_heads, expansion) for _ in range(blocks)))

        self.stem = conv3(inputs.channels, widths[0])
        self.encode = nn.ModuleList(map(level, widths, heads))
        self.down = nn.ModuleList(
            nn.Sequential(conv3(fine, coarse // 4), nn.PixelUnshuffle(2)) for fine, coarse in pairwise(widths)
        )
        # From coarse to fine, the order in which they are applied.
        self.up = nn.ModuleList(
            nn.Sequential(conv3(coarse, 2 * coarse), nn.PixelShuffle(2)) for coarse in widths[:0:-1]
        )
        self.join = nn.ModuleList(
            nn.Conv2d(coarse // 2 + fine, fine, 1, bias=False) for coarse, fine in pairwise(widths[::-1])
        )
        self.decode = nn.ModuleList(map(level, widths[-2::-1], heads[-2::-1]))
        self.head = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def pyramid(self, channels: Tensor) -> list[Tensor]:
        """Compute the features of the decoder, finest first.

        Parameters
        ----------
        channels : Tensor, shape (N, inputs.channels, H, W)
            Height and width are multiples of `multiple`.

        Returns
        -------
        list of Tensor, each of shape (N, widths[i], H / 2^i, W / 2^i)
        """
        x, skips = self.encode[0](self.stem(channels)), []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skips.append(x)  # (N, widths[i], H / 2^i, W / 2^i)
            x = encode(down(x))
        features = [x]
        for up, join, decode in zip(self.up, self.join, self.decode, strict=True):
            x = decode(join(torch.cat([up(x), skips.pop()], 1)))
            features.insert(0, x)
        return features

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
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        features = self.pyramid(F.pad(self.inputs(source, plane, position), pad))
        return Translation(self.head(features[0])[..., :height, :width])  # (N, out, H, W)
