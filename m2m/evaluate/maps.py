"""What of a map is compared, by its nature: images of data range 1, regional values, directions.

A scalar map is compared on its scale: FA as it is. Tract density is compared on its logarithmic
scale, so that Pearson's r is the correlation of log density; regions and Dice's overlap are of
the density itself. Tensors are compared by the FA derived from them, and by mean diffusivity,
direction and log-Euclidean distance.
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
    natural : float
        Regional means in natural units are those of the file times this.
    """

    values: NDArray
    image: NDArray
    tensor: tensors.Measures | None = None
    natural: float = 1.0

    @property
    def regional(self) -> NDArray:
        """What is averaged over regions of interest, in natural units, shape (X, Y, Z)."""
        if self.tensor is not None:
            return self.image
        return self.values if self.natural == 1 else self.values * self.natural


def compared(target: str, values: NDArray) -> Compared:
    """Take from a map's file values what is compared.

    Parameters
    ----------
    target : str
        Modality.
    values : ndarray, shape (X, Y, Z), or (X, Y, Z, 6) of tensors
    """
    modality = MODALITIES[target]
    if modality.nature == "tensor":
        tensor = tensors.measures(values)
        return Compared(values, tensor.fa, tensor)
    return Compared(values, modality.scale(values), natural=modality.natural)


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
    target : str
        Modality.
    true, synthetic : Compared
    regions : mapping of str to ndarray of bool, shape (X, Y, Z)
        With brain and wm.
    density_threshold : float
        Tract density above which a voxel counts as tract.

    Returns
    -------
    dict
        By region. Density, brain: dice (of tract voxels). Tensor, brain: md_mae_um2_per_ms (mean
        absolute error of mean diffusivity), log_distance; wm: angle_deg (median angle between
        principal directions where true FA exceeds `DIRECTED_FA`).
    """
    brain, nature = regions["brain"], MODALITIES[target].nature
    if nature == "density":
        tracts = [(one.values > density_threshold) & brain for one in (true, synthetic)]
        return {"brain": {"dice": measures.dice(*tracts)}}
    if nature == "tensor":
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
