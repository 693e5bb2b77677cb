"""Super-resolution guided by a synthesis: a low-resolution target beside T1 slices.

Stages run from the low resolution to the full one, k + 1 of them for a ratio of 2^k. In each,
features of the low-resolution target are aligned to those of a frozen synthesis and joined with
them.

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
except (ImportError, RuntimeError):  # its wheel fails beside another build of torch
    _by_torchvision = None

TAPS = 9


def deformable_conv2d(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, plain: bool = _by_torchvision is None
) -> Tensor:
    """Convolve by a 3 x 3 kernel each of whose taps is moved, and weighed, pixel by pixel.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        Zero beyond its border.
    weight : Tensor, shape (C', C / groups, 3, 3)
    offset : Tensor, shape (N, 18, H, W)
        Pixels, row and column of each tap in turn.
    mask : Tensor, shape (N, 9, H, W)
    plain : bool
        Computed here, in torch alone; torchvision's operator gives the same where it is installed.

    Returns
    -------
    Tensor, shape (N, C', H, W)
    """
    if not plain:
        return _by_torchvision(x, offset, weight, padding=1, mask=mask)
    sides = x.shape[-2:]
    axes = (torch.arange(n, device=x.device, dtype=torch.float32) for n in sides)
    pixel = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (2, H, W)
    steps = torch.arange(-1, 2, device=x.device, dtype=torch.float32)
    tap = torch.cartesian_prod(steps, steps)[:, :, None, None]  # (9, 2, 1, 1)
    place = pixel + tap + offset.float().unflatten(1, (TAPS, 2))  # (N, 9, 2, H, W)
    # grid_sample: the centre of pixel i lies at (2 i + 1) / length - 1; columns come first.
    length = torch.tensor(sides, device=x.device).view(2, 1, 1)
    grid = ((2 * place + 1) / length - 1).flip(2).movedim(2, -1)  # (N, 9, H, W, 2)
    read = F.grid_sample(x.float(), grid.flatten(1, 2), align_corners=False)  # (N, C, 9 H, W)
    read = read.unflatten(2, (TAPS, -1)) * mask[:, None]  # (N, C, 9, H, W)
    kernel = weight.reshape(len(weight), -1, 1, 1)  # (C', 9 C / groups, 1, 1)
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(read.to(weight.dtype).flatten(1, 2), kernel, groups=groups)  # (N, C', H, W)


class Deformable(nn.Module):
    """Modulated deformable convolution, moved by what a guide says; a plain one at the start.

    Parameters
    ----------
    channels : int
        In and out.
    guide : int
        Channels of the guide.
    groups : int
    """

    def __init__(self, channels: int, guide: int, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(conv3(channels, channels, groups).weight.detach())
        self.move = nn.Conv2d(guide, 3 * TAPS, 3, padding=1)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Convolve (N, channels, H, W) as a guide (N, guide, H, W) says."""
        offset, mask = self.move(guide).split((2 * TAPS, TAPS), 1)
        return deformable_conv2d(x, self.weight, offset, 2 * mask.sigmoid())


class DeformableQueries(nn.Module):
    """Queries, keys and values of an attention, gathered by a deformable convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.gather = Deformable(3 * channels, channels, groups=3 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 3 C, H, W)."""
        return self.gather(self.mix(x), x)


class IncrementalModulation(nn.Module):
    """Scale and shift of normalised features, added to their own, from a similarity map."""

    def __init__(self, channels: int):
        super().__init__()
        self.predict = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, 2 * channels, 1)
        )
        nn.init.zeros_(self.predict[-1].weight)
        nn.init.zeros_(self.predict[-1].bias)

    def forward(self, x: Tensor, similarity: Tensor) -> Tensor:
        """Modulate (N, C, H, W) by (N, 1, H, W): IN(x) (gamma + sd(x)) + (beta + mean(x))."""
        gamma, beta = self.predict(similarity).chunk(2, 1)  # each (N, C, H, W)
        mean = x.mean((2, 3), keepdim=True)
        sd = (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        return (x - mean) / sd * (gamma + sd) + beta + mean


class Stage(nn.Module):
    """Align features to the synthesis, join them, modulate by how similar the two are.

    Parameters
    ----------
    channels : int
        Of the features and of what they become.
    guide : int
        Of the synthesis' features.
    heads, blocks, expansion
        Of the transformer blocks.
    """

    def __init__(self, channels: int, guide: int, heads: int, blocks: int, expansion: float):
        super().__init__()
        self.enter = nn.Conv2d(guide, channels, 1, bias=False)
        self.align = Deformable(channels, 2 * channels)
        self.join = nn.Sequential(
            *(
                TransformerBlock(2 * channels, heads, expansion, DeformableQueries(2 * channels))
                for _ in range(blocks)
            ),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
        )
        self.modulate = IncrementalModulation(channels)

    def forward(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, channels, H, W) from themselves and the synthesis'; the similarity map."""
        guide = self.enter(guide)  # (N, channels, H, W)
        similarity = F.cosine_similarity(x.float(), guide.float(), dim=1)[:, None]  # (N, 1, H, W)
        aligned = self.align(x, torch.cat([x, guide], 1))
        joined = self.join(torch.cat([aligned, guide], 1))
        return x + self.modulate(joined, similarity), similarity


class Restored(NamedTuple):
    """Output of a super-resolution.

    Attributes
    ----------
    image : Tensor, shape (N, 1, H, W)
    synthesis : Tensor, shape (N, 1, H, W)
        What the frozen synthesis says without the low resolution.
    similarity : list of Tensor, each of shape (N, 1, H / 2^i, W / 2^i)
        Of each stage, coarse to fine, of the padded slice.
    log_sd : None
        It predicts no uncertainty.
    """

    image: Tensor
    synthesis: Tensor
    similarity: list[Tensor]
    log_sd: None = None


class SuperResolution(nn.Module):
    """One slice of the target from T1 slices and the target at low resolution.

    Parameters
    ----------
    synthesis : RestormerTranslator
        Trained before; it is frozen here.
    ratio : int
        2^k.
    width, heads, blocks, expansion
        Channels of a stage, and its transformer blocks.

    Raises
    ------
    ValueError
        The ratio is no power of two, or the synthesis has fewer levels than there are stages.
    """

    def __init__(
        self,
        synthesis: RestormerTranslator,
        ratio: int,
        width: int,
        heads: int,
        blocks: int,
        expansion: float,
    ):
        super().__init__()
        k = ratio.bit_length() - 1
        widths = synthesis.widths
        if ratio != 2**k or k + 1 > len(widths):
            raise ValueError(
                f"ratio {ratio} needs a power of two and a synthesis of as many levels as stages; "
                f"it has {len(widths)}"
            )
        self.ratio, self.multiple = ratio, synthesis.multiple
        self.synthesis = synthesis.requires_grad_(False)
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.stages = nn.ModuleList(
            Stage(width, guide, heads, blocks, expansion) for guide in widths[k::-1]
        )
        self.up = nn.ModuleList(conv3(width, width) for _ in range(k))
        self.head = nn.Conv2d(width, 1, 3, padding=1)
        # It starts next to the synthesis itself.
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Restored:
        """Restore slices (N, 1, H, W) of the target.

        Parameters
        ----------
        source : Tensor, shape (N, context + 1, H, W)
            T1 slices, then the low resolution, enlarged to the grid. It is seen averaged over
            blocks, as is what the synthesis lacks of it.
        plane, position
            As the synthesis takes them.
        """
        seen, low = source[:, :-1], source[:, -1:]
        height, width = source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        with torch.no_grad():
            pyramid = self.synthesis.pyramid(F.pad(self.synthesis.inputs(seen, position), pad))
            synthesis = self.synthesis.head(pyramid[0])
        low = F.pad(low, pad)
        seen = torch.cat([low, low - synthesis], 1)
        synthesis = synthesis[..., :height, :width]
        x, maps = self.stem(F.avg_pool2d(seen, self.ratio)), []
        guides = pyramid[len(self.up) :: -1]
        for i, (stage, guide) in enumerate(zip(self.stages, guides, strict=True)):
            x = self.up[i - 1](double(x)) if i else x  # (N, width, H / 2^(k - i), W / 2^(k - i))
            x, similarity = stage(x, guide)
            maps.append(similarity)
        return Restored(synthesis + self.head(x)[..., :height, :width], synthesis, maps)
