"""The network of a field: features on grids of several resolutions, and a small perceptron.

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

# Of Mueller et al.: a node's place in the table is the exclusive or of its indices times these.
PRIMES = (1, 2_654_435_761, 805_459_861)
# Of the softplus: it bends within a tenth of the range of scaled values.
SHARPNESS = 10.0


class DenseGrid(nn.Module):
    """Features at every node of a regular grid, linear between them."""

    def __init__(self, shape: Sequence[int], features: int):
        super().__init__()
        self.nodes = nn.Parameter(0.01 * torch.randn(1, features, *shape))

    def forward(self, place: Tensor) -> Tensor:
        """Features (N, features) at places (N, 3), 0 to 1; beyond, those of the nearest edge."""
        at = (2 * place - 1).flip(-1)[None, None, None]  # (1, 1, 1, N, 3), last axis first
        found = F.grid_sample(self.nodes, at, padding_mode="border", align_corners=True)
        return found[0, :, 0, 0].T  # (N, features)


class HashGrid(nn.Module):
    """As `DenseGrid`, for more nodes than the table has rows: nodes share them by a hash."""

    def __init__(self, shape: Sequence[int], features: int, rows: int):
        super().__init__()
        self.table = nn.Parameter(0.01 * torch.randn(rows, features))
        corners = torch.cartesian_prod(*[torch.arange(2)] * 3)
        self.register_buffer("corners", corners, persistent=False)  # (8, 3)
        self.register_buffer("shape", torch.tensor(shape), persistent=False)
        self.register_buffer("primes", torch.tensor(PRIMES), persistent=False)

    def forward(self, place: Tensor) -> Tensor:
        """Features (N, features) at places (N, 3), 0 to 1; beyond, those of the nearest edge."""
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
        Of the grids' nodes.
    features : int
        Of each grid.
    hidden : sequence of int
        Widths of the perceptron.
    channels : int
        Of the slices.
    table_rows : int
        Grids with more nodes are hashed.
    positive : bool
        Values are above 0, as densities are.
    """

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
        # Rounded as it is kept: the box of a field on disk must give grids of the same shape.
        size_mm = (box.high_mm - box.low_mm).astype(np.float32).astype(np.float64)
        self.register_buffer("low_mm", torch.tensor(box.low_mm, dtype=torch.float32))
        self.register_buffer("size_mm", torch.tensor(size_mm, dtype=torch.float32))
        self.grids = nn.ModuleList()
        for spacing_mm in spacings_mm:
            shape = [int(n) for n in np.ceil(size_mm / spacing_mm).clip(1) + 1]
            dense = np.prod(shape, dtype=float) <= table_rows
            grid = DenseGrid(shape, features) if dense else HashGrid(shape, features, table_rows)
            self.grids.append(grid)
        layers, width = [], features * len(self.grids)
        for wider in hidden:
            layers += [nn.Linear(width, wider), nn.SiLU()]
            width = wider
        self.perceptron = nn.Sequential(*layers, nn.Linear(width, channels))
        self.positive = positive

    def forward(self, points_mm: Tensor) -> Tensor:
        """Scaled values (N, channels) at points (N, 3) in world mm."""
        place = (points_mm - self.low_mm) / self.size_mm  # (N, 3), 0 to 1 inside the box
        features = torch.cat([grid(place) for grid in self.grids], dim=-1)
        values = self.perceptron(features)  # (N, channels)
        return F.softplus(values, SHARPNESS) if self.positive else values
