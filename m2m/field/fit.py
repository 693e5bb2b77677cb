"""Fit a field to slices: each slice's noise is learned with it, so that a bad one counts less.

Each pixel is a normal sample of the field about its place, with its slice's own variance; a slice
that contradicts the others gets a large one (as in NeSVoR). Between slices the field bends as
little as they allow.

References
----------
Xu et al. (2023), NeSVoR, IEEE TMI 42:1707, https://doi.org/10.1109/TMI.2023.3236216;
Duchon (1977), thin-plate splines, https://doi.org/10.1007/BFb0086566.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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

# Standard deviation, in scaled values, that every slice begins with.
FIRST_SD = 0.1
# Learning rate of its logarithm: some hundred steps must suffice for factors of ten.
SD_RATE = 0.05
# Times the median deviation of slices: noisier ones count less.
USUAL = 1.5
# Points along the normal that stand for a slice's profile, where it has one.
PROFILE_POINTS = 5
FWHM_PER_SD = np.sqrt(8 * np.log(2))


class Fitted(NamedTuple):
    """A field, and what was learned about its slices.

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
    """Mean of a field over the profile of each pixel's slice (its point-spread function).

    Parameters
    ----------
    slices : sequence of Slice
        Thickness and normal of each are used.
    """

    def __init__(self, slices: Sequence[Slice]):
        super().__init__()
        sds_mm = np.array([one.thickness_mm / FWHM_PER_SD for one in slices])
        at, weight = np.polynomial.hermite_e.hermegauss(PROFILE_POINTS if sds_mm.any() else 1)
        normals = np.stack([one.pose[:3, 2] for one in slices])
        steps = sds_mm[:, None, None] * at[:, None] * normals[:, None]  # (S, K, 3)
        self.register_buffer("steps_mm", torch.tensor(steps, dtype=torch.float32))
        self.register_buffer("weight", torch.tensor(weight / weight.sum(), dtype=torch.float32))

    def forward(self, network: FieldNetwork, points_mm: Tensor, number: Tensor) -> Tensor:
        """Values (N, C) of pixels at points (N, 3) of slices `number` (N,)."""
        places = points_mm[:, None] + self.steps_mm[number]  # (N, K, 3)
        values = network(places.flatten(0, 1)).unflatten(0, places.shape[:2])  # (N, K, C)
        return (values * self.weight[:, None]).sum(1)  # (N, C)


def bending(network: FieldNetwork, n_points: int, step: float, pixel_mm: float) -> Tensor:
    """Mean squared second derivative by pixels, at random points, in random directions."""
    place = torch.rand(n_points, 3, device=network.low_mm.device)
    middle = network.low_mm + place * network.size_mm
    away = step * pixel_mm * F.normalize(torch.randn_like(middle), dim=-1)
    before, at, after = network(torch.cat([middle - away, middle, middle + away])).chunk(3)
    return ((before - 2 * at + after) / step**2).square().mean()


def fit(
    slices: Sequence[Slice], box: Box, options: SliceField, device: str = "cpu", quiet: bool = False
) -> Fitted:
    """Fit a field to slices.

    Parameters
    ----------
    slices : sequence of Slice
        Scaled values of about 0 to 1.
    box : Box
        Where the field is defined; pixels outside it play no role.
    options : SliceField
    device : str
    quiet : bool
        Without a progress bar.

    Raises
    ------
    DataError
        As `gather`; or the fit diverged.
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


def network_of(
    box: Box, options: SliceField, pixel_mm: float, channels: int, positive: bool = False
) -> FieldNetwork:
    """Build the network of a field, as its section says."""
    spacings_mm = [spacing * pixel_mm for spacing in options.spacings]
    return FieldNetwork(
        box, spacings_mm, options.features, options.hidden, channels,
        options.table_rows, positive,
    )  # fmt: skip


def descend(
    network: FieldNetwork,
    misfit: Callable[[], Tensor],
    options: SliceField,
    pixel_mm: float,
    log_sds: Sequence[nn.Parameter] = (),
    quiet: bool = False,
) -> None:
    """Minimise a misfit to a random part of the samples, and the field's bending.

    Parameters
    ----------
    network : FieldNetwork
    misfit : callable
        Gives that of another part at each call.
    options : SliceField
    pixel_mm : float
    log_sds : sequence of Parameter
        Logarithms of deviations, learned too.
    quiet : bool
        Without a progress bar.

    Raises
    ------
    DataError
        The fit diverged.
    """
    rate = options.learning_rate
    groups = [
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
                f"the fit diverged at step {step}", value=loss.item(),
                remedy="look at the images' scale, or lower field.learning_rate",
            )  # fmt: skip
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


def weights(sds: Tensor) -> Tensor:
    """How much each slice counts: 1, or less where its deviation is more than usual.

    Slices of the middle of a brain show more, so they fit less well than those of its rim: up to
    `USUAL` times the median deviation all count alike. Beyond, by the inverse of the squared
    variance: what is wrong with a slice, a shift say, is wrong with all of its pixels together.
    """
    return (USUAL * sds.median() / sds).pow(4).clamp(max=1)
