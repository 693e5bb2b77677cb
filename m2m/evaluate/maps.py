"""What of a map is compared, by modality: images of data range 1, regional values, directions.

FA is compared as it is. Tract density is compared on its logarithmic scale, so that Pearson's r
is the correlation of log density; regions and Dice's overlap are of the density itself. Tensors
are compared by the FA derived from them, and by mean diffusivity, direction and log-Euclidean
distance.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m import metrics as measures
from m2m import tensors
from m2m.modalities import MODALITIES

# True FA above which a direction means something.
DIRECTED_FA = 0.2
UM2_PER_MS = 1e3  # of 1 mm2/s


@dataclass(frozen=True)
class Compared:
    """One map as the evaluation and the figures see it.

    Attributes
    ----------
    values : ndarray, shape (X, Y, Z), or (X, Y, Z, 6) for a diffusion tensor
        As in the file.
    image : ndarray, shape (X, Y, Z)
        Data range 1: SSIM, PSNR, MAE and Pearson's r are of it.
    tensor : Measures or None
        Of a diffusion tensor.
    """

    values: NDArray
    image: NDArray
    tensor: tensors.Measures | None = None

    @property
    def regional(self) -> NDArray:
        """What is averaged over regions of interest, in natural units, shape (X, Y, Z)."""
        return self.values if self.tensor is None else self.image


def compared(target: str, values: NDArray) -> Compared:
    """Take from a map's file values what is compared.

    Parameters
    ----------
    target : {"fa", "tdi", "dti"}
    values : ndarray, shape (X, Y, Z), or (X, Y, Z, 6) for dti
    """
    if target == "dti":
        tensor = tensors.measures(values)
        return Compared(values, tensor.fa, tensor)
    return Compared(values, MODALITIES[target].scale(values))


def further_metrics(
    target: str,
    true: Compared,
    synthetic: Compared,
    regions: Mapping[str, NDArray],
    density_threshold: float,
) -> dict[str, dict[str, float]]:
    """Compare what one image of data range 1 does not show.

    Parameters
    ----------
    target : {"fa", "tdi", "dti"}
    true, synthetic : Compared
    regions : mapping of str to ndarray of bool, shape (X, Y, Z)
        With brain and wm.
    density_threshold : float
        Tract density above which a voxel counts as tract.

    Returns
    -------
    dict
        By region. tdi, brain: dice (of tract voxels). dti, brain: md_mae_um2_per_ms (mean
        absolute error of mean diffusivity), log_distance; wm: angle_deg (median angle between
        principal directions where true FA exceeds `DIRECTED_FA`).
    """
    brain = regions["brain"]
    if target == "tdi":
        tracts = [(one.values > density_threshold) & brain for one in (true, synthetic)]
        return {"brain": {"dice": measures.dice(*tracts)}}
    if target == "dti":
        measured = brain & np.any(true.values != 0, axis=-1)
        directed = regions["wm"] & (true.image > DIRECTED_FA)
        a, b = true.tensor, synthetic.tensor
        md = UM2_PER_MS * measures.mean_absolute_error(a.md, b.md, measured)
        distance = measures.log_distance(true.values, synthetic.values, measured)
        return {
            "brain": {"md_mae_um2_per_ms": md, "log_distance": distance},
            "wm": {"angle_deg": measures.median_angle_deg(a.v1, b.v1, directed)},
        }
    return {}
