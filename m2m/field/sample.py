"""Values of a field on any grid: volumes, and slices between or oblique to the given ones."""

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.field.network import FieldNetwork
from m2m.field.slice_samples import Box
from m2m.io.errors import DataError
from m2m.io.volume import Volume

# Points per batch.
CHUNK = 1 << 16


@torch.inference_mode()
def at_points(network: FieldNetwork, points_mm: NDArray) -> NDArray[np.float32]:
    """Sample a field at points.

    Parameters
    ----------
    network : FieldNetwork
    points_mm : ndarray, shape (N, 3)
        World mm.

    Returns
    -------
    ndarray, shape (N, C)
        Scaled values; 0 outside the box.
    """
    device = network.low_mm.device
    chunks = torch.from_numpy(np.asarray(points_mm, np.float32)).split(CHUNK)
    values = torch.cat([network(chunk.to(device)).cpu() for chunk in chunks]).numpy()
    values[~extent(network).holds(points_mm)] = 0
    return values


def extent(network: FieldNetwork) -> Box:
    """Box in which a field is defined, world mm."""
    low, size = (x.cpu().numpy().astype(np.float64) for x in (network.low_mm, network.size_mm))
    return Box(low, low + size)


def on_grid(network: FieldNetwork, affine: NDArray, shape: tuple[int, int, int]) -> Volume:
    """Sample a field on a grid: a volume, or one slice with any pose (shape (H, W, 1)).

    Parameters
    ----------
    network : FieldNetwork
    affine : ndarray, shape (4, 4)
        Voxels to world mm; for a slice, its pose.
    shape : (int, int, int)

    Returns
    -------
    Volume
        Scaled values, shape (X, Y, Z, C); 0 outside the box.

    Raises
    ------
    DataError
        The grid lies outside the box.
    """
    points = apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    box = extent(network)
    if not box.holds(points).any():
        raise DataError(
            f"the grid lies outside the field's box {box}",
            value=f"centre {points.mean(0).round(1).tolist()} mm",
            remedy="check its affine",
        )
    return Volume(at_points(network, points).reshape(*shape, -1), np.asarray(affine, np.float64))
