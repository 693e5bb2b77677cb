"""What an image is: its file, its channels, how its values become a network's and come back.

A network sees and predicts *scaled* values, of about the size of 1. T1 has no unit, so its scale is
each volume's own (`m2m.slices.normalise`); every other scale below is a fixed function and its
exact inverse, the same for everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2m import tensors
from m2m.bids import KIND_OF

# Streamlines per voxel, for each one seeded per such volume: above is rare, and scaled above 1.
TOP_DENSITY = 100.0
# Middle of the logarithm of brain tissue's diffusivities.
MIDDLE_LOG = float(np.log(0.7e-3))
_MIDDLE = np.where(np.equal(tensors.ROWS, tensors.COLUMNS), MIDDLE_LOG, 0.0)


def log_density(density: NDArray) -> NDArray[np.float32]:
    """Scale a tract density, 0 and above: log(1 + density) / log(1 + `TOP_DENSITY`)."""
    return (np.log1p(density) / np.log1p(TOP_DENSITY)).astype(np.float32)


def density_of_log(scaled: NDArray) -> NDArray[np.float32]:
    """Inverse of `log_density`."""
    return np.expm1(np.asarray(scaled, np.float64) * np.log1p(TOP_DENSITY)).astype(np.float32)


def log_tensor(six: NDArray) -> NDArray[np.float32]:
    """Scale tensors in mm2/s, shape (..., 6): log D - log 0.7e-3 I; 0 stays 0."""
    there = np.any(six != 0, axis=-1)
    scaled = np.zeros(six.shape, np.float32)
    scaled[there] = tensors.logarithm(six[there]) - _MIDDLE
    return scaled


def tensor_of_log(scaled: NDArray) -> NDArray[np.float32]:
    """Inverse of `log_tensor`: positive definite in every voxel."""
    return tensors.exponential(np.asarray(scaled, np.float64) + _MIDDLE).astype(np.float32)


def unchanged(values: NDArray) -> NDArray:
    """Scale of a map that lies between 0 and 1 by definition."""
    return values


@dataclass(frozen=True)
class Modality:
    """An image that is translated from, or to.

    Attributes
    ----------
    title : str
        For captions.
    channels : tuple of str
        Names of its channels in the slices.
    kind : str
        Its file on the common grid: a key of `m2m.bids.KINDS`.
    description : str
        For the sidecar.
    scale, unscale : callable
        File values to scaled ones and back, of arrays (X, Y, Z), or (X, Y, Z, channels) where
        there are several.
    limits : (float, float)
        Of scaled values: a prediction is clipped to them.
    mirror : tuple of int
        Factor of each channel when the person is mirrored left to right.
    nature : {"weighted", "scalar", "density", "tensor"}
        Decides which figures, metrics and texts an image has: a weighted image has no unit, a
        scalar map has one value in each voxel, a density counts streamlines.
    """

    title: str
    channels: tuple[str, ...]
    kind: str
    description: str = ""
    scale: Callable[[NDArray], NDArray] = unchanged
    unscale: Callable[[NDArray], NDArray] = unchanged
    limits: tuple[float, float] = (-np.inf, np.inf)
    mirror: tuple[int, ...] = (1,)
    nature: Literal["weighted", "scalar", "density", "tensor"] = "scalar"

    @property
    def synthetic(self) -> str:
        """Kind of its predicted file."""
        return f"synth-{self.kind}"


MODALITIES = {
    "t1": Modality("T1", ("t1",), KIND_OF["t1"], nature="weighted"),
    "fa": Modality(
        "FA", ("fa",), KIND_OF["fa"], "Fractional anisotropy, 0 to 1", limits=(0.0, 1.0)
    ),
    "tdi": Modality(
        "tract density", ("tdi",), KIND_OF["tdi"],
        "Streamlines per voxel, for each one seeded per volume of a voxel",
        log_density, density_of_log, limits=(0.0, np.inf), nature="density",
    ),
    "dti": Modality(
        "diffusion tensor", tuple(f"dti-{i}" for i in ("xx", "xy", "xz", "yy", "yz", "zz")),
        KIND_OF["dti"], "Diffusion tensor: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, mm2/s",
        log_tensor, tensor_of_log, mirror=(1, -1, -1, 1, 1, 1), nature="tensor",
    ),
}  # fmt: skip
