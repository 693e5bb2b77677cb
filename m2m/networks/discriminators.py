"""Discriminators of whole slices with their source, of brain crops, and of patches with a difference map.

References
----------
Karras et al. (2020), Analyzing and Improving the Image Quality of StyleGAN,
https://doi.org/10.1109/CVPR42600.2020.00813 (residual discriminator).
Park et al. (2020), Swapping Autoencoder, arXiv:2007.00653 (co-occurrence of patches).
Kim et al. (2024), Macro2Micro, arXiv:2412.11277 (crops inside the brain).
Liu et al. (2019), arXiv:1910.06809 (pyramid of features); Miyato and Koyama (2018),
arXiv:1802.05637 (projection); Feng et al. (2024), https://doi.org/10.1109/TMI.2024.3445969.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from m2m.networks.processes import place, share

LEAK = 0.2


def _initialise(module: nn.Module) -> None:
    """Initialise so that layers keep the size of activations (He et al. 2015); else learning is slow."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DownBlock(nn.Module):
    """Residual block that halves height and width."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.second = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2)."""
        y = F.leaky_relu(self.first(x), LEAK)  # (N, C, H, W)
        y = F.leaky_relu(self.second(F.avg_pool2d(y, 2)), LEAK)  # (N, C', H/2, W/2)
        return (y + self.shortcut(F.avg_pool2d(x, 2))) / math.sqrt(2)  # (N, C', H/2, W/2)


class ImageDiscriminator(nn.Module):
    """Classify a whole slice as real or synthetic, given the source slice that it belongs to.

    Parameters
    ----------
    width : int
        Channels at half resolution; the coarser levels have 2, 4 and 4 times as many.
    channels, condition_channels : int
        Channels of the slice and of the source slice; without a source (0), a sharp brain of any
        participant would pass as real.
    """

    def __init__(self, width: int, channels: int = 1, condition_channels: int = 1):
        super().__init__()
        # Blocks of 2 x 2 pixels become channels: full detail at a quarter of the cost.
        self.stem = nn.Conv2d(4 * (channels + condition_channels), width, 3, padding=1)
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.blocks = nn.Sequential(*(DownBlock(a, b) for a, b in pairwise(widths)))
        self.last = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.logit = nn.Linear(4 * width, 1)
        self.apply(_initialise)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """Classify slices.

        Parameters
        ----------
        image : Tensor, shape (N, channels, H, W)
        condition : Tensor, shape (N, condition_channels, H, W)

        Returns
        -------
        Tensor, shape (N, 1)
            Logits, positive for real.
        """
        x = torch.cat([image, condition], dim=1)  # (N, C, H, W)
        x = F.pad(x, (0, -x.shape[-1] % 16, 0, -x.shape[-2] % 16))  # (N, C, H', W')
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(x, 2)), LEAK)  # (N, w, H'/2, W'/2)
        x = self.blocks(x)  # (N, 4 w, H'/16, W'/16)
        x = F.leaky_relu(self.last(x), LEAK)  # (N, 4 w, H'/16, W'/16)
        return self.logit(x.mean(dim=(2, 3)))  # (N, 1)


class PatchDiscriminator(nn.Module):
    """Classify a crop as real or synthetic, given reference crops of the real image.

    Parameters
    ----------
    width : int
        Channels at the resolution of the crops.
    crop_size : int
        Side of the crops in pixels, a power of two of at least 8.
    channels : int
        Channels of the crops.

    Raises
    ------
    ValueError
        The crop size is not a power of two, or below 8.
    """

    def __init__(self, width: int, crop_size: int, channels: int = 1):
        super().__init__()
        halvings = int(math.log2(crop_size)) - 2
        if crop_size != 4 * 2**halvings or halvings < 1:
            raise ValueError(f"crop_size must be a power of two of at least 8, got {crop_size}")
        widths = [width * min(2**i, 4) for i in range(halvings + 1)]
        self.encode = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(LEAK),
            *(DownBlock(a, b) for a, b in pairwise(widths)),
            nn.Flatten(),
        )
        features, hidden = 16 * widths[-1], 8 * width
        self.classify = nn.Sequential(
            nn.Linear(2 * features, hidden),
            nn.LeakyReLU(LEAK),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(LEAK),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(LEAK),
            nn.Linear(hidden, 1),
        )
        self.apply(_initialise)

    def forward(self, crops: Tensor, references: Tensor) -> Tensor:
        """Classify crops, given the reference crops of their image.

        Parameters
        ----------
        crops, references : Tensor, shape (N, n, channels, size, size)
            Crops to classify, and crops of the real image; any number of each.

        Returns
        -------
        Tensor, shape (N, n)
            Logits, positive for real.
        """
        encoded = self.encode(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])  # (N, n, F)
        reference = self.encode(references.flatten(0, 1)).unflatten(0, references.shape[:2])
        reference = reference.mean(dim=1, keepdim=True).expand_as(encoded)  # (N, n, F)
        return self.classify(torch.cat([encoded, reference], dim=2)).squeeze(2)  # (N, n)


class DiscriminatorOutput(NamedTuple):
    """Logits of a discriminator at several scales, and the features that they come from.

    Attributes
    ----------
    logits : list of Tensor, each of shape (N, 1, h, w)
        Positive for real.
    features : list of Tensor, each of shape (N, c, h, w)
    """

    logits: list[Tensor]
    features: list[Tensor]


class DifferenceProjectionDiscriminator(nn.Module):
    """Classify patches at three scales as real or synthetic, given a difference map.

    The logit of a patch is the sum of a part that depends on its features alone, and the
    projection of its features on an embedding of the difference map at that place. A synthetic
    detail can look real only where the translation differs from the target.

    Parameters
    ----------
    width : int
        Channels at half resolution; 64 as published, with 5.2 M parameters.
    channels : int
        Channels of the slice, and of the difference map.
    """

    strides = (4, 8, 16)

    def __init__(self, width: int, channels: int = 1):
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 3, stride=2, padding=1)) for a, b in pairwise(widths))
        self.lateral = nn.ModuleList(spectral_norm(nn.Conv2d(a, 4 * width, 1)) for a in widths[2:])
        self.smooth = nn.ModuleList(spectral_norm(nn.Conv2d(4 * width, 2 * width, 3, padding=1)) for _ in self.strides)
        self.logit = nn.Conv2d(2 * width, 1, 1)
        self.embed = nn.Conv2d(channels, 2 * width, 1, bias=False)

    def forward(self, image: Tensor, difference: Tensor) -> DiscriminatorOutput:
        """Classify slices (N, channels, H, W), given difference maps of the same shape."""
        pad = (0, -image.shape[-1] % 32, 0, -image.shape[-2] % 32)
        x, bottom_up = F.pad(image, pad), []
        for down in self.down:
            x = F.leaky_relu(down(x), LEAK)  # (N, c, H'/2, W'/2), ..., (N, 8 w, H'/32, W'/32)
            bottom_up.append(x)
        top_down: list[Tensor] = []
        for lateral, x in zip(reversed(self.lateral), reversed(bottom_up[1:]), strict=True):
            y = F.leaky_relu(lateral(x), LEAK)  # (N, 4 w, h, w), coarse to fine
            top_down.append(y + F.interpolate(top_down[-1], scale_factor=2) if top_down else y)
        embedded, logits, features = self.embed(F.pad(difference, pad)), [], []
        for smooth, stride, x in zip(self.smooth, self.strides, top_down[:0:-1], strict=True):
            y = F.leaky_relu(smooth(x), LEAK)  # (N, 2 w, H'/stride, W'/stride)
            projection = (y * F.avg_pool2d(embedded, stride)).sum(1, keepdim=True)
            logits.append(self.logit(y) + projection)  # (N, 1, H'/stride, W'/stride)
            features.append(y)
        return DiscriminatorOutput(logits, features)


def brain_crops(
    image: Tensor,
    mask: Tensor,
    n: int,
    fraction: tuple[float, float],
    size: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw square crops whose centres lie inside the mask.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    mask : Tensor, shape (N, 1, H, W)
        Above 0.5 inside. Where a slice's mask is empty, centres lie anywhere.
    n : int
        Crops per image.
    fraction : (float, float)
        Range of a crop's side over the image's longer side, drawn uniformly.
    size : int
        Pixels of the side that crops are resized to, bilinearly.
    generator : torch.Generator
        On the CPU, whatever the device of the images, so that crops do not depend on it. It
        draws for the whole batch, also where this process has a share of it.

    Returns
    -------
    Tensor, shape (N, n, C, size, size)
        Half of the crops are mirrored left to right. Crops are 0 beyond the border of the image.
    """
    batch, _, height, width = image.shape
    _, processes = place()
    # Double precision: a product rounded up to the count would fall outside the mask.
    draws = torch.rand(3, processes * batch, n, generator=generator, dtype=torch.float64)
    location, side, flip = share(draws, 1).to(image.device)  # each (N, n), 0 to below 1
    inside = mask.flatten(1) > 0.5  # (N, H W)
    inside = inside | ~inside.any(dim=1, keepdim=True)
    count = inside.cumsum(dim=1)  # (N, H W)
    rank = (location * count[:, -1:]).long() + 1  # (N, n), the rank-th pixel inside is the centre
    pixel = torch.searchsorted(count, rank)  # (N, n)
    rows, columns = pixel // width, pixel % width  # (N, n)

    low, high = fraction
    side = (low + (high - low) * side) * max(height, width)  # (N, n) pixels
    step = (torch.arange(size, device=image.device) - (size - 1) / 2) / size  # (size,)
    mirror = torch.where(flip < 0.5, -1.0, 1.0)  # (N, n)
    y = rows[..., None] + side[..., None] * step  # (N, n, size) pixels
    x = columns[..., None] + (side * mirror)[..., None] * step  # (N, n, size) pixels
    # grid_sample: the centre of pixel i lies at (2 i + 1) / length - 1.
    y = (2 * y + 1) / height - 1
    x = (2 * x + 1) / width - 1
    grid = torch.stack(
        [x[:, :, None, :].expand(-1, -1, size, -1), y[..., None].expand(-1, -1, -1, size)], dim=-1
    )  # (N, n, size, size, 2)
    grid = grid.flatten(1, 2).to(image.dtype)  # (N, n size, size, 2)
    crops = F.grid_sample(image, grid, align_corners=False)  # (N, C, n size, size)
    return crops.unflatten(2, (n, size)).transpose(1, 2)  # (N, n, C, size, size)
