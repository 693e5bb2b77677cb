"""Super-resolution of a low-resolution target, guided by a synthesis from T1 slices.

For a factor of 2^k there are k + 1 stages, from low to full resolution. Each stage aligns features
of the low-resolution target with features of a frozen synthesis, and combines the two.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
Zhu et al. (2019), modulated deformable convolution, arXiv:1811.11168.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.networks.resampling import double
from m2m.networks.restormer import RestormerTranslator, TransformerBlock, conv3

try:
    from torchvision.ops import deform_conv2d as _by_torchvision
except (ImportError, RuntimeError):  # RuntimeError: torchvision is built for another torch
    _by_torchvision = None

TAPS = 9


def deformable_conv2d(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, plain: bool = _by_torchvision is None
) -> Tensor:
    """Convolve with a 3 x 3 kernel whose taps are shifted and weighted at each pixel.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        Taken as 0 beyond its border.
    weight : Tensor, shape (C', C / groups, 3, 3)
    offset : Tensor, shape (N, 18, H, W)
        Shifts in pixels: row and column of the first tap, then of the second, and so on.
    mask : Tensor, shape (N, 9, H, W)
        Weights of the taps.
    plain : bool
        Compute here, with torch only; else with the operator of torchvision (the same result).

    Returns
    -------
    Tensor, shape (N, C', H, W)
    """
    if not (plain or torch.onnx.is_in_onnx_export()):
        return _by_torchvision(x, offset, weight, padding=1, mask=mask)
    height, width = x.shape[-2:]
    axes = (torch.arange(n, device=x.device, dtype=torch.float32) for n in (height, width))
    pixel = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (2, H, W)
    steps = torch.arange(-1, 2, device=x.device, dtype=torch.float32)
    tap = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(TAPS, 2, 1, 1)
    rows, columns = (pixel + tap + offset.float().unflatten(1, (TAPS, 2))).unbind(2)  # each (N, 9, H, W)
    # grid_sample: the centre of pixel i lies at (2 i + 1) / length - 1; columns come first.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)  # (N, 9, H, W, 2)
    samples = F.grid_sample(x.float(), grid.flatten(1, 2), align_corners=False)  # (N, C, 9 H, W)
    samples = samples.unflatten(2, (TAPS, -1)) * mask[:, None]  # (N, C, 9, H, W)
    kernel = weight.reshape(len(weight), -1, 1, 1)  # (C', 9 C / groups, 1, 1)
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(samples.to(weight.dtype).flatten(1, 2), kernel, groups=groups)  # (N, C', H, W)


class Deformable(nn.Module):
    """Modulated deformable convolution; offsets and weights come from guide features.

    At initialisation it is an ordinary convolution.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    guide : int
        Channels of the guide features.
    groups : int
    """

    def __init__(self, channels: int, guide: int, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(conv3(channels, channels, groups).weight.detach())
        self.move = nn.Conv2d(guide, 3 * TAPS, 3, padding=1)
        assert self.move.bias is not None
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Convolve (N, channels, H, W), with offsets and weights from the guide (N, guide, H, W)."""
        offset, mask = self.move(guide).split((2 * TAPS, TAPS), 1)
        return deformable_conv2d(x, self.weight, offset, 2 * mask.sigmoid())


class DeformableQueries(nn.Module):
    """Queries, keys and values of an attention layer, by a deformable convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.gather = Deformable(3 * channels, channels, groups=3 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 3 C, H, W)."""
        return self.gather(self.mix(x), x)


class IncrementalModulation(nn.Module):
    """Scale and shift of normalised features, predicted from a similarity map.

    They are added to the standard deviation and mean of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        first, last = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 2 * channels, 1)
        self.predict = nn.Sequential(first, nn.GELU(), last)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, similarity: Tensor) -> Tensor:
        """Modulate (N, C, H, W) by (N, 1, H, W): IN(x) (gamma + sd(x)) + (beta + mean(x))."""
        gamma, beta = self.predict(similarity).chunk(2, 1)  # each (N, C, H, W)
        mean = x.mean((2, 3), keepdim=True)
        sd = (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        return (x - mean) / sd * (gamma + sd) + beta + mean


class Stage(nn.Module):
    """Align features with the synthesis, combine them, and modulate by their similarity.

    Parameters
    ----------
    channels : int
        Channels of input and output features.
    guide : int
        Channels of the features of the synthesis.
    heads, blocks : int
        Attention heads, and number of transformer blocks.
    expansion : float
        Of the transformer blocks.
    """

    def __init__(self, channels: int, guide: int, heads: int, blocks: int, expansion: float):
        super().__init__()
        self.enter = nn.Conv2d(guide, channels, 1, bias=False)
        self.align = Deformable(channels, 2 * channels)
        self.join = nn.Sequential(
            *(TransformerBlock(2 * channels, heads, expansion, DeformableQueries(2 * channels)) for _ in range(blocks)),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
        )
        self.modulate = IncrementalModulation(channels)

    def forward(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Refine features (N, channels, H, W) by those of the synthesis; also gives the similarity map."""
        guide = self.enter(guide)  # (N, channels, H, W)
        similarity = F.cosine_similarity(x.float(), guide.float(), dim=1)[:, None]  # (N, 1, H, W)
        aligned = self.align(x, torch.cat([x, guide], 1))
        combined = self.join(torch.cat([aligned, guide], 1))
        return x + self.modulate(combined, similarity), similarity


class Restored(NamedTuple):
    """Output of a super-resolution.

    Attributes
    ----------
    image : Tensor, shape (N, 1, H, W)
    synthesis : Tensor, shape (N, 1, H, W)
        Prediction of the frozen synthesis, without the low-resolution target.
    similarity : list of Tensor, each of shape (N, 1, H / 2^i, W / 2^i)
        Similarity map of each stage, coarse to fine, of the padded slice.
    log_sd, sample_sd : None
        The network predicts no uncertainty.
    """

    image: Tensor
    synthesis: Tensor
    similarity: list[Tensor]
    log_sd: None = None
    sample_sd: None = None


class SuperResolution(nn.Module):
    """One slice of the target from T1 slices and the target at low resolution.

    Parameters
    ----------
    synthesis : RestormerTranslator
        Trained before; frozen here.
    factor : int
        Full over low resolution, 2^k.
    width : int
        Channels of a stage.
    heads, blocks : int
        Attention heads and transformer blocks of a stage.
    expansion : float
        Of the transformer blocks.

    Raises
    ------
    ValueError
        The factor is no power of two, or the synthesis has fewer levels than there are stages.
    """

    def __init__(
        self,
        synthesis: RestormerTranslator,
        factor: int,
        width: int,
        heads: int,
        blocks: int,
        expansion: float,
    ):
        super().__init__()
        k = factor.bit_length() - 1
        widths = synthesis.widths
        if factor != 2**k or k + 1 > len(widths):
            raise ValueError(
                f"factor {factor} must be a power of two, 2^k, and the synthesis must have k + 1 levels, "
                f"but it has {len(widths)}"
            )
        self.factor, self.multiple = factor, synthesis.multiple
        self.synthesis = synthesis.requires_grad_(False)
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.stages = nn.ModuleList(Stage(width, guide, heads, blocks, expansion) for guide in widths[k::-1])
        self.up = nn.ModuleList(conv3(width, width) for _ in range(k))
        self.head = nn.Conv2d(width, 1, 3, padding=1)
        # At initialisation the output is close to the synthesis.
        assert self.head.bias is not None
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Restored:
        """Restore slices (N, 1, H, W) of the target.

        Parameters
        ----------
        source : Tensor, shape (N, context + 1, H, W)
            T1 slices, then the low-resolution target on the full grid. The network receives block
            means of that target, and of its difference from the synthesis.
        plane : Tensor of int64, shape (N,)
        position : Tensor, shape (N, 3, H, W)
            Orientations and MNI152 mm, for the synthesis.

        Returns
        -------
        Restored
        """
        slices, low = source[:, :-1], source[:, -1:]
        height, width = source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        with torch.no_grad():
            pyramid = self.synthesis.pyramid(F.pad(self.synthesis.inputs(slices, plane, position), pad))
            synthesis = self.synthesis.head(pyramid[0])
        low = F.pad(low, pad)
        channels = torch.cat([low, low - synthesis], 1)
        synthesis = synthesis[..., :height, :width]
        x, maps = self.stem(F.avg_pool2d(channels, self.factor)), []
        guides = pyramid[len(self.up) :: -1]
        for i, (stage, guide) in enumerate(zip(self.stages, guides, strict=True)):
            x = self.up[i - 1](double(x)) if i else x  # (N, width, H / 2^(k - i), W / 2^(k - i))
            x, similarity = stage(x, guide)
            maps.append(similarity)
        return Restored(synthesis + self.head(x)[..., :height, :width], synthesis, maps)
