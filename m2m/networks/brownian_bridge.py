"""A Brownian bridge between slices of the source, at time 0, and of the target, at time 1.

Between its ends ``a`` and ``b`` the bridge is normal with mean ``(1 - t) a + t b`` and variance
``noise^2 t (1 - t)``. A network predicts ``b`` from a point of the bridge, its time and the source.
In translation the prediction takes the place of ``b``: each step draws the next point of the bridge from
here to there.

References
----------
Liu et al. (2023), I2SB, arXiv:2302.05872. Li et al. (2023), BBDM, arXiv:2205.07680. Albergo et al. (2023),
stochastic interpolants, arXiv:2303.08797. Lipman et al. (2023), flow matching, arXiv:2210.02747 (noise 0).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, get_timestep_embedding
from torch import Tensor, nn

from m2m.networks.resampling import double, halve
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation

# The embedding of times was made for steps of this number.
TIMES = 1000
# Side of the square of fixed noise that translations repeat over a slice, pixels.
NOISE_SIDE = 64
NOISE_SEED = 1


class TimedUNet(nn.Module):
    """U-Net whose blocks know the time: one residual block of MONAI at each level, down and up.

    Parameters
    ----------
    in_channels, out_channels : int
    widths : sequence of int
        Channels of each level, fine to coarse; multiples of 8, which is the number of groups of a norm.
    """

    def __init__(self, in_channels: int, out_channels: int, widths: Sequence[int]):
        super().__init__()
        self.width, embedded = widths[0], 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)

        def block(inputs: int, outputs: int) -> nn.Module:
            return DiffusionUNetResnetBlock(2, inputs, embedded, outputs, norm_num_groups=8)

        self.encode = nn.ModuleList(block(a, b) for a, b in pairwise((widths[0], *widths)))
        # From coarse to fine, the order in which they are applied.
        self.decode = nn.ModuleList(block(a + b, b) for b, a in reversed([*pairwise(widths)]))
        self.last = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) at times (N,), 0 to 1, to (N, out_channels, H, W)."""
        time = self.time(get_timestep_embedding(TIMES * time, self.width).to(x.dtype))  # (N, 4 C0)
        x, skips = self.stem(x), []  # (N, C0, H, W)
        for i, encode in enumerate(self.encode):
            x = encode(halve(x) if i else x, time)  # (N, Ci, H/2^i, W/2^i)
            skips.append(x)
        skips.pop()
        for decode in self.decode:
            x = decode(torch.cat([double(x), skips.pop()], 1), time)  # (N, Ci, H/2^i, W/2^i)
        return self.last(x)  # (N, out, H, W)


class BridgeTranslator(nn.Module):
    """One slice of the target from neighbouring slices of the source, by samples of a bridge.

    The noise of translations is fixed, the same for all slices, so that a map can be made again and a slice does
    not depend on those around it in a batch.

    Parameters
    ----------
    inputs : SliceInputs
        Input channels besides the point of the bridge: source slices, position, prior.
    widths : sequence of int
        Channels of each level, fine to coarse; multiples of 8.
    out_channels : int
        Channels of the target.
    noise : float
        Scale of the bridge's standard deviation.
    steps, samples : int
        Of a translation.
    """

    draws: Tensor

    def __init__(
        self,
        inputs: SliceInputs,
        widths: Sequence[int],
        out_channels: int = 1,
        noise: float = 0.2,
        steps: int = 4,
        samples: int = 4,
    ):
        super().__init__()
        self.inputs, self.out_channels = inputs, out_channels
        self.noise, self.steps, self.samples = noise, steps, samples
        self.multiple = 2 ** (len(widths) - 1)
        self.unet = TimedUNet(out_channels + inputs.channels, out_channels, widths)
        size = (steps - 1, samples * out_channels, NOISE_SIDE, NOISE_SIDE)
        seeded = torch.Generator("cpu").manual_seed(NOISE_SEED)
        # No part of the weights: the number of steps can be changed after training.
        self.register_buffer("draws", torch.randn(size, generator=seeded, device="cpu"), persistent=False)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices: mean and standard deviation over samples.

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
            Image and, of several samples in several steps, `sample_sd`; each (N, out_channels, H, W).
        """
        start, brain = self.start(source)  # (N, out, H, W), (N, 1, H, W)
        given = self.inputs(source, plane, position)  # (N, C, H, W)
        end = brain * self.end(start, torch.zeros_like(start[:, 0, 0, 0]), given)  # (N, out, H, W)
        if self.steps == 1:
            return Translation(end)
        one = start.new_ones(self.samples, 1, 1, 1, 1)  # samples differ from the first step on
        point, end = one * start, one * end  # (samples, N, out, H, W)
        brain, given = (one * part for part in (brain, given))
        for i in range(1, self.steps):
            before, now = (i - 1) / self.steps, i / self.steps
            noise = brain * self._noise(i - 1, start)  # (samples, N, out, H, W)
            point = between(point, end, before, now, self.noise, noise)
            x = point.flatten(0, 1)  # (samples N, out, H, W)
            predicted = self.end(x, torch.full_like(x[:, 0, 0, 0], now), given.flatten(0, 1))
            end = brain * predicted.unflatten(0, (self.samples, -1))  # (samples, N, out, H, W)
        return Translation(end.mean(0), sample_sd=end.std(0) if self.samples > 1 else None)

    def start(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The bridge's beginning, the slice itself in each channel (N, out, H, W), and its brain (N, 1, H, W).

        Outside the brain every point is 0. The brain is where the slice, or a pixel beside, is not 0.
        """
        centre = source[:, source.shape[1] // 2, None]  # (N, 1, H, W)
        brain = F.max_pool2d((centre != 0).to(source.dtype), 3, 1, 1)
        return centre.expand(-1, self.out_channels, -1, -1), brain

    def end(self, point: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """Predict the bridge's end (N, out, H, W) from its point at times (N,), and the inputs (N, C, H, W)."""
        height, width = point.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        return self.unet(F.pad(torch.cat([point, given], 1), pad), time)[..., :height, :width]

    def _noise(self, step: int, like: Tensor) -> Tensor:
        """Fixed noise of a step, (samples, 1, out, H, W)."""
        rows, columns = (torch.arange(n, device=like.device) % NOISE_SIDE for n in like.shape[-2:])
        noise = self.draws[step][:, rows][..., columns]  # (samples out, H, W)
        return noise.unflatten(0, (self.samples, 1, self.out_channels)).to(like.dtype)


def between(a: Tensor, b: Tensor, at_a: float, time: float, scale: float, noise: Tensor) -> Tensor:
    """Draw a point of the bridge of this scale from a, at time `at_a`, to b, at time 1.

    Parameters
    ----------
    a, b : Tensor
        Of one shape.
    at_a, time : float
        0 <= at_a < time <= 1.
    scale : float
        Standard deviation of the bridge over the square root of time.
    noise : Tensor
        Standard normal.

    Returns
    -------
    Tensor
    """
    share = (time - at_a) / (1 - at_a)
    deviation = scale * math.sqrt((time - at_a) * (1 - time) / (1 - at_a))
    return a + share * (b - a) + deviation * noise
