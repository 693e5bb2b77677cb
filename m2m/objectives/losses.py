"""Losses: pure functions of tensors, computed in single precision whatever the autocast.

Masks are weights: 1 where the target was measured, 0 elsewhere. A batch whose masks are empty
gives NaN, which the training loop reports with its subjects. Means inside a mask are over the
whole batch, also where several processes share it (`m2m.networks.processes`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from m2m.networks.processes import place, total

Parameters = ParamSpec("Parameters")

# The first three of the five scale weights of Wang et al. (2003), to be divided by their sum: at
# the other two scales a slice of 64 pixels would be smaller than the window.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001)

# Limits of a predicted log standard deviation: exp(-7) is below the noise of any map.
LOG_SD_LIMITS = (-7.0, 2.0)


def _single_precision(function: Callable[Parameters, Tensor]) -> Callable[Parameters, Tensor]:
    """Compute a loss in float32, without autocast: bfloat16 is too coarse for differences of squares."""

    @wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tensor:
        values: list[Any] = [a.float() if isinstance(a, Tensor) else a for a in args]
        with torch.autocast(values[0].device.type, enabled=False):
            return function(*values, **kwargs)  # type: ignore[arg-type]  # as `args`, in float32

    return wrapped


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N, C, H, W) weighted by a mask (N, 1, H, W) over the whole batch."""
    inside, weight = total(torch.stack([(values * mask).sum(), mask.sum() * values.shape[1]]))
    return inside / weight


def batch_mean(values: Tensor) -> Tensor:
    """Mean over the whole batch, also where several processes share it equally."""
    return total(values.mean()) / place()[1]


@_single_precision
def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference inside the mask.

    Parameters
    ----------
    prediction, target : Tensor, shape (N, C, H, W)
    mask : Tensor, shape (N, 1, H, W)

    Returns
    -------
    Tensor, shape ()
    """
    return masked_mean((prediction - target).abs(), mask)


def masked_squares(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference inside the mask.

    Parameters
    ----------
    prediction, target : Tensor, shape (N, C, H, W)
    mask : Tensor, shape (N, 1, H, W)

    Returns
    -------
    Tensor, shape ()
    """
    return masked_mean((prediction - target).square(), mask)


@lru_cache(maxsize=32)
def _blur_matrix(size: int, sigma: float, radius: int, device: torch.device) -> Tensor:
    """Matrix (size, size) that blurs a row vector of pixels from the right, mirrored at its ends."""
    with torch.inference_mode(False):  # cached for later steps, which need gradients through it
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = (kernel / kernel.sum())[None, None]  # (1, 1, K)
        points = torch.eye(size, dtype=torch.float64)[:, None]  # (size, 1, size)
        lines = F.conv1d(F.pad(points, (radius, radius), mode="reflect"), kernel)
        return lines[:, 0].float().to(device)  # (size, size)


@_single_precision
def gaussian_blur(image: Tensor, sigma_px: float, radius: int) -> Tensor:
    """Blur with a Gaussian kernel; the image is mirrored at its borders.

    Written as a product of two matrices: on a CPU, gradients of a convolution with one channel
    and a large kernel cost several times as much as the whole network.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    sigma_px : float
        Standard deviation, pixels.
    radius : int
        Of the kernel, pixels; its side is 2 radius + 1.

    Returns
    -------
    Tensor, shape (N, C, H, W)

    Raises
    ------
    ValueError
        The image is not larger than the radius of the kernel.
    """
    if min(image.shape[-2:]) <= radius:
        raise ValueError(
            f"a slice of {tuple(image.shape[-2:])} pixels is too small to be blurred "
            f"by a kernel of radius {radius} pixels"
        )
    rows, columns = (_blur_matrix(n, sigma_px, radius, image.device) for n in image.shape[-2:])
    return rows.T @ image @ columns


def split_frequencies(image: Tensor, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Split an image into a low band, its Gaussian blur, and a high band, the rest.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    sigma_px : float
        Of the Gaussian, pixels. At sigma 3.5 the kernel has 21 x 21 pixels, as in the paper; its
        size is proportional to sigma.

    Returns
    -------
    low, high : Tensor, shape (N, C, H, W)
        Their sum is the image.
    """
    low = gaussian_blur(image, sigma_px, round(10 / 3.5 * sigma_px))
    return low, image.float() - low


@_single_precision
def ms_ssim_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    data_range: float = 1.0,
    weights: Sequence[float] = MS_SSIM_WEIGHTS,
) -> Tensor:
    """One minus the multi-scale structural similarity inside the mask.

    At each scale, structure and contrast (at the coarsest, luminance too) are averaged over the
    masked pixels of the batch. The mean is mapped from [-1, 1] to [0, 1], so that its power is
    defined for negative values too. The similarity is the product over scales.

    Parameters
    ----------
    prediction, target : Tensor, shape (N, C, H, W)
        Already set to 0 outside the mask, so that windows contain the same values there.
    mask : Tensor, shape (N, 1, H, W)
    data_range : float
        Of the target; 1 for FA.
    weights : sequence of float
        Exponents, fine to coarse; divided by their sum.

    Returns
    -------
    Tensor, shape ()

    References
    ----------
    Wang, Simoncelli, Bovik (2003), https://doi.org/10.1109/ACSSC.2003.1292216.
    """
    similarity = prediction.new_ones(())
    for scale, weight in enumerate(weights):
        if scale:
            prediction, target, mask = (F.avg_pool2d(x, 2) for x in (prediction, target, mask))
        luminance, structure = _ssim_parts(prediction, target, data_range)
        last = scale == len(weights) - 1
        mean = masked_mean(luminance * structure if last else structure, mask)
        similarity = similarity * ((1 + mean) / 2) ** (weight / sum(weights))
    return 1 - similarity


def _ssim_parts(a: Tensor, b: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps (N, C, H, W); window of 11 pixels, sigma 1.5."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = gaussian_blur(torch.cat([a, b, a * a, b * b, a * b]), 1.5, 5)  # (5 N, C, H, W)
    mean_a, mean_b, aa, bb, ab = moments.chunk(5)  # each (N, C, H, W)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    covariance = ab - mean_a * mean_b
    variances = (aa - mean_a**2) + (bb - mean_b**2)
    return luminance, (2 * covariance + c2) / (variances + c2)


def feature_distance(prediction: Sequence[Tensor], target: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Distance between the features of two images inside the mask, mean over levels.

    At each pixel of a level, the features are a vector, scaled to length 1. The distance is the
    mean absolute difference of its elements times their number.

    Parameters
    ----------
    prediction, target : sequence of Tensor, each of shape (N k, C_i, H_i, W_i)
        Features of each level; k images for each item of the batch.
    mask : Tensor, shape (N, 1, H, W)
        Averaged over the pixels of a level.

    Returns
    -------
    Tensor, shape ()

    References
    ----------
    Zhang et al. (2018), LPIPS, arXiv:1801.03924 (unit length at each pixel).
    """
    distance = mask.new_zeros(())
    for a, b in zip(prediction, target, strict=True):
        inside = F.adaptive_avg_pool2d(mask, (a.shape[-2], a.shape[-1]))  # (N, 1, H_i, W_i)
        inside = inside.repeat_interleave(len(a) // len(mask), dim=0)  # (N k, 1, H_i, W_i)
        distance = distance + a.shape[1] * masked_l1(_unit_length(a), _unit_length(b), inside)
    return distance / len(prediction)


def _unit_length(features: Tensor) -> Tensor:
    """Scale the vector at each pixel of (N, C, H, W) to length 1 (less for very short vectors)."""
    return features.float() / (features.float().square().sum(1, keepdim=True) + 1e-6).sqrt()


@_single_precision
def gaussian_nll(error: Tensor, log_sd: Tensor, mask: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of errors inside the mask, without its constant.

    Parameters
    ----------
    error, log_sd : Tensor, shape (N, C, H, W)
        Errors, and logarithms of their predicted standard deviations.
    mask : Tensor, shape (N, 1, H, W)

    Returns
    -------
    Tensor, shape ()

    References
    ----------
    Nix and Weigend (1994), https://doi.org/10.1109/ICNN.1994.374138.
    """
    log_sd = log_sd.clamp(*LOG_SD_LIMITS)
    return masked_mean(log_sd + 0.5 * (error * torch.exp(-log_sd)) ** 2, mask)


@_single_precision
def generator_adversarial(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of a generator: softplus(-D(fake)), mean over the batch.

    References
    ----------
    Goodfellow et al. (2014), arXiv:1406.2661.
    """
    return F.softplus(-fake_logits).mean()


@_single_precision
def discriminator_adversarial(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of a discriminator: softplus(-D(real)) + softplus(D(fake)), means."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def relativistic_adversarial(preferred: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Relativistic average loss: preferred images should look more real than the others' mean.

    A discriminator prefers the measured images, a generator the synthetic ones.

    Parameters
    ----------
    preferred, other : sequence of Tensor
        Logits of each head, of any shape.

    Returns
    -------
    Tensor, shape ()
        Mean over heads.

    References
    ----------
    Jolicoeur-Martineau (2018), relativistic average, arXiv:1807.00734.
    """
    terms = []
    for a, b in zip(preferred, other, strict=True):
        a, b = a.float(), b.float()
        terms += [F.softplus(batch_mean(b) - a).mean(), F.softplus(b - batch_mean(a)).mean()]
    return sum(terms[1:], start=terms[0]) / len(preferred)


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference between the features of a discriminator, mean over its heads.

    References
    ----------
    Wang et al. (2018), pix2pixHD, arXiv:1711.11585.
    """
    distances = [(a.float() - b.float()).abs().mean() for a, b in zip(fake, real, strict=True)]
    return sum(distances[1:], start=distances[0]) / len(fake)


@_single_precision
def roughness(displacement: Tensor) -> Tensor:
    """Mean squared slope of a displacement (N, 2, H, W) along rows, plus that along columns."""
    return displacement.diff(dim=2).square().mean() + displacement.diff(dim=3).square().mean()
