"""Network of a field: features on grids of several resolutions, and a small perceptron.

References
----------
Mueller et al. (2022), hashed grids, ACM TOG 41:102, https://doi.org/10.1145/3528223.3530127.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.field.slice_samples import Box

# Of Mueller et al.: the table row of a node is the exclusive or of its indices times these primes.
PRIMES = (1, 2_654_435_761, 805_459_861)
# Of the softplus: its bend covers about a tenth of the range of scaled values.
SHARPNESS = 10.0


class DenseGrid(nn.Module):
    """Features at the nodes of a regular grid, interpolated linearly.

    Parameters
    ----------
    shape : sequence of int
        Number of nodes along each axis.
    features : int
        Per node.
    """

    def __init__(self, shape: Sequence[int], features: int):
        super().__init__()
        self.nodes = nn.Parameter(0.01 * torch.randn(1, features, *shape))

    def forward(self, place: Tensor) -> Tensor:
        """Features (N, features) at positions (N, 3) in 0 to 1; outside, those of the nearest edge."""
        at = (2 * place - 1).flip(-1)[None, None, None]  # (1, 1, 1, N, 3), last axis first
        sampled = F.grid_sample(self.nodes, at, padding_mode="border", align_corners=True)
        return sampled[0, :, 0, 0].T  # (N, features)


class HashGrid(nn.Module):
    """As `DenseGrid`, with a hash table of features that nodes share.

    Parameters
    ----------
    shape : sequence of int
        Number of nodes along each axis.
    features : int
        Per node.
    rows : int
        Of the table.
    """

    corners: Tensor
    shape: Tensor
    primes: Tensor

    def __init__(self, shape: Sequence[int], features: int, rows: int):
        super().__init__()
        self.table = nn.Parameter(0.01 * torch.randn(rows, features))
        corners = torch.cartesian_prod(*[torch.arange(2)] * 3)
        self.register_buffer("corners", corners, persistent=False)  # (8, 3)
        self.register_buffer("shape", torch.tensor(shape), persistent=False)
        self.register_buffer("primes", torch.tensor(PRIMES), persistent=False)

    def forward(self, place: Tensor) -> Tensor:
        """Features (N, features) at positions (N, 3) in 0 to 1; outside, those of the nearest edge."""
        at = place.clamp(0, 1) * (self.shape - 1)  # (N, 3)
        low = torch.minimum(at.floor(), self.shape - 2.0)
        share = (at - low)[:, None]  # (N, 1, 3)
        weight = torch.where(self.corners == 1, share, 1 - share).prod(-1)  # (N, 8)
        x, y, z = ((low.long()[:, None] + self.corners) * self.primes).unbind(-1)  # (N, 8)
        row = (x ^ y ^ z) % len(self.table)
        return (F.embedding(row, self.table) * weight[..., None]).sum(1)  # (N, features)


class FieldNetwork(nn.Module):
    """Scaled values anywhere in a box, as a function of world mm.

    Parameters
    ----------
    box : Box
    spacings_mm : sequence of float
        Node spacing of each grid.
    features : int
        Of each grid.
    hidden : sequence of int
        Widths of the hidden layers of the perceptron.
    channels : int
        Of the output.
    table_rows : int
        Grids with more nodes are hashed.
    positive : bool
        Values are above 0, for a density.
    """

    low_mm: Tensor
    size_mm: Tensor

    def __init__(
        self,
        box: Box,
        spacings_mm: Sequence[float],
        features: int,
        hidden: Sequence[int],
        channels: int,
        table_rows: int,
        positive: bool = False,
    ):
        super().__init__()
        # Rounded as when saved: the box of a field on disk must give grids of the same shape.
        size_mm = (box.high_mm - box.low_mm).astype(np.float32).astype(np.float64)
        self.register_buffer("low_mm", torch.tensor(box.low_mm, dtype=torch.float32))
        self.register_buffer("size_mm", torch.tensor(size_mm, dtype=torch.float32))
        self.grids = nn.ModuleList()
        for spacing_mm in spacings_mm:
            shape = [int(n) for n in np.ceil(size_mm / spacing_mm).clip(1) + 1]
            dense = np.prod(shape, dtype=float) <= table_rows
            grid = DenseGrid(shape, features) if dense else HashGrid(shape, features, table_rows)
            self.grids.append(grid)
        layers: list[nn.Module] = []
        width = features * len(self.grids)
        for wider in hidden:
            layers += [nn.Linear(width, wider), nn.SiLU()]
            width = wider
        self.perceptron = nn.Sequential(*layers, nn.Linear(width, channels))
        self.positive = positive

    def forward(self, points_mm: Tensor) -> Tensor:
        """Scaled values (N, channels) at points (N, 3), world mm."""
        place = (points_mm - self.low_mm) / self.size_mm  # (N, 3), 0 to 1 inside the box
        features = torch.cat([grid(place) for grid in self.grids], dim=-1)
        values = self.perceptron(features)  # (N, channels)
        return F.softplus(values, SHARPNESS) if self.positive else values
