"""Fit a field to slices; the noise of each slice is estimated, so that a corrupted one counts less.

Each pixel is a normal sample of the field at its position, with the variance of its slice. A slice
that contradicts the others gets a large variance (as in NeSVoR). Between slices, the bending of the
field is minimised.

References
----------
Xu et al. (2023), NeSVoR, IEEE TMI 42:1707, https://doi.org/10.1109/TMI.2023.3236216;
Duchon (1977), thin-plate splines, https://doi.org/10.1007/BFb0086566.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import trange

from m2m.field.network import FieldNetwork
from m2m.field.slice_samples import Box, Slice, gather, pixel_mm_of
from m2m.io.errors import DataError
from m2m.options import SliceField

# Initial standard deviation of each slice, in scaled values.
FIRST_SD = 0.1
# Learning rate of its logarithm: a few hundred steps must suffice for a factor of ten.
SD_RATE = 0.05
# Factor of the median deviation of slices, above which a slice counts less.
USUAL = 1.5
# Quadrature points along the normal for the profile of a thick slice.
PROFILE_POINTS = 5
FWHM_PER_SD = np.sqrt(8 * np.log(2))


class Fitted(NamedTuple):
    """A field, and the estimated noise of its slices.

    Attributes
    ----------
    network : FieldNetwork
    sds : ndarray, shape (n_slices,)
        Standard deviation of each slice's noise, in scaled values.
    pixel_mm : float
        Side of a pixel: the unit of the grids' spacings.
    """

    network: FieldNetwork
    sds: NDArray[np.float32]
    pixel_mm: float


class Profile(nn.Module):
    """Mean of a field over the slice profile of each pixel (its point-spread function).

    Parameters
    ----------
    slices : sequence of Slice
        Their thickness and normal are used.
    """

    steps_mm: Tensor
    weight: Tensor

    def __init__(self, slices: Sequence[Slice]):
        super().__init__()
        sds_mm = np.array([one.thickness_mm / FWHM_PER_SD for one in slices])
        at, weight = np.polynomial.hermite_e.hermegauss(PROFILE_POINTS if sds_mm.any() else 1)
        normals = np.stack([one.pose[:3, 2] for one in slices])
        steps = sds_mm[:, None, None] * at[:, None] * normals[:, None]  # (S, K, 3)
        self.register_buffer("steps_mm", torch.tensor(steps, dtype=torch.float32))
        self.register_buffer("weight", torch.tensor(weight / weight.sum(), dtype=torch.float32))

    def forward(self, network: FieldNetwork, points_mm: Tensor, number: Tensor) -> Tensor:
        """Compute pixel values.

        Parameters
        ----------
        network : FieldNetwork
        points_mm : Tensor, shape (N, 3)
            Of the pixels, world mm.
        number : Tensor of int, shape (N,)
            Number of the slice of each pixel.

        Returns
        -------
        Tensor, shape (N, C)
        """
        samples = points_mm[:, None] + self.steps_mm[number]  # (N, K, 3)
        values = network(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])  # (N, K, C)
        return (values * self.weight[:, None]).sum(1)  # (N, C)


def bending(network: FieldNetwork, n_points: int, step: float, pixel_mm: float) -> Tensor:
    """Mean squared second derivative at random points, in random directions.

    Parameters
    ----------
    network : FieldNetwork
    n_points : int
    step : float
        Of the finite difference, in pixels.
    pixel_mm : float

    Returns
    -------
    Tensor
        Scalar, per pixel^4.
    """
    place = torch.rand(n_points, 3, device=network.low_mm.device)
    middle = network.low_mm + place * network.size_mm
    away = step * pixel_mm * F.normalize(torch.randn_like(middle), dim=-1)
    before, at, after = network(torch.cat([middle - away, middle, middle + away])).chunk(3)
    return ((before - 2 * at + after) / step**2).square().mean()


def fit(slices: Sequence[Slice], box: Box, options: SliceField, device: str = "cpu", quiet: bool = False) -> Fitted:
    """Fit a field to slices.

    Parameters
    ----------
    slices : sequence of Slice
        Scaled values of about 0 to 1.
    box : Box
        Domain of the field; pixels outside are not used.
    options : SliceField
    device : str
    quiet : bool
        No progress bar.

    Returns
    -------
    Fitted

    Raises
    ------
    DataError
        As in `gather`; or the fit diverged.
    """
    torch.manual_seed(options.seed)
    points, values, number = (torch.from_numpy(x).to(device) for x in gather(slices, box))
    pixel_mm = pixel_mm_of(slices)
    network = network_of(box, options, pixel_mm, values.shape[-1]).to(device)
    profile = Profile(slices).to(device)
    log_sds = nn.Parameter(torch.full((len(slices),), np.log(FIRST_SD), device=device))

    def misfit() -> Tensor:
        chosen = torch.randint(len(points), (options.batch_size,), device=device)
        sds = log_sds.exp()
        variance = sds[number[chosen]].square()
        error = profile(network, points[chosen], number[chosen]) - values[chosen]
        squares = error.square().mean(-1)  # (N,)
        noise = 0.5 * (squares.detach() / variance + variance.log()).mean()
        return (weights(sds.detach())[number[chosen]] * squares).mean() + noise

    descend(network, misfit, options, pixel_mm, [log_sds], quiet)
    return Fitted(network, log_sds.detach().exp().cpu().numpy(), pixel_mm)


def network_of(box: Box, options: SliceField, pixel_mm: float, channels: int, positive: bool = False) -> FieldNetwork:
    """Build the network of a field from its options.

    Parameters
    ----------
    box : Box
        Domain of the field.
    options : SliceField
    pixel_mm : float
        Unit of the grid spacings.
    channels : int
    positive : bool
        Values are above 0.

    Returns
    -------
    FieldNetwork
    """
    spacings_mm = [spacing * pixel_mm for spacing in options.spacings]
    return FieldNetwork(box, spacings_mm, options.features, options.hidden, channels, options.table_rows, positive)


def descend(
    network: FieldNetwork,
    misfit: Callable[[], Tensor],
    options: SliceField,
    pixel_mm: float,
    log_sds: Sequence[nn.Parameter] = (),
    quiet: bool = False,
) -> None:
    """Minimise the misfit to random batches of samples, and the bending of the field.

    Parameters
    ----------
    network : FieldNetwork
    misfit : callable
        Returns the misfit of a new batch at each call.
    options : SliceField
    pixel_mm : float
        Side of a pixel.
    log_sds : sequence of Parameter
        Logarithms of standard deviations to optimise as well.
    quiet : bool
        No progress bar.

    Raises
    ------
    DataError
        The fit diverged.
    """
    rate = options.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": list(network.grids.parameters()), "lr": rate},
        {"params": list(network.perceptron.parameters()), "lr": rate / 5},
        {"params": list(log_sds), "lr": SD_RATE},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=options.steps, pct_start=0.05
    )
    for step in trange(options.steps, desc="field", disable=quiet):
        loss = misfit()
        smooth = bending(network, options.batch_size // 4, min(options.spacings), pixel_mm)
        loss = loss + options.bending * smooth
        if not loss.isfinite():
            raise DataError(
                f"the fit diverged at step {step}",
                value=loss.item(),
                remedy="check the scale of the images, or lower field.learning_rate",
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


def weights(sds: Tensor) -> Tensor:
    """Weight of each slice: 1, or less if its standard deviation is unusually large.

    Slices through the middle of the brain have more structure, so they fit less well than those at
    its edge: up to `USUAL` times the median deviation, all weights are 1. Above, the weight is the
    inverse of the squared variance, since an error such as a shift affects all pixels of a slice.
    """
    return (USUAL * sds.median() / sds).pow(4).clamp(max=1)
