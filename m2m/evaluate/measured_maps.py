"""What is compared of a map, by its nature: an image of data range 1, regional values, directions.

A scalar map is compared on its scale; that of FA is FA itself. Tract density is compared on its
logarithmic scale, so Pearson's r is the correlation of log density; regional means and Dice's
overlap use the density itself. Tensors are compared by the FA derived from them, and by mean
diffusivity, direction and log-Euclidean distance.
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from m2m.diffusion import tensors
from m2m.io.modalities import MODALITIES


@dataclass(frozen=True)
class Compared:
    """One map in the forms that the evaluation and the figures use.

    Attributes
    ----------
    values : ndarray, shape (X, Y, Z), or (X, Y, Z, 6) for a diffusion tensor
        Values of the file.
    image : ndarray, shape (X, Y, Z)
        Image of data range 1, from which SSIM, PSNR, MAE and Pearson's r are computed.
    tensor : Measures or None
        Measures of a diffusion tensor; None for other maps.
    regional_factor : float
        Factor from the file's unit to the natural unit of regional means.
    """

    values: NDArray
    image: NDArray
    tensor: tensors.Measures | None = None
    regional_factor: float = 1.0

    @property
    def regional(self) -> NDArray:
        """Values that are averaged over regions of interest, in natural units, shape (X, Y, Z)."""
        if self.tensor is not None:
            return self.image
        return self.values if self.regional_factor == 1 else self.values * self.regional_factor


def compared(target: str, values: NDArray) -> Compared:
    """Derive the compared forms of a map from the values of its file.

    Parameters
    ----------
    target : str
        Modality.
    values : ndarray, shape (X, Y, Z), or (X, Y, Z, 6) of tensors
        Values of the file.

    Returns
    -------
    Compared
    """
    modality = MODALITIES[target]
    if modality.nature == "tensor":
        tensor = tensors.measures(values)
        return Compared(values, tensor.fa, tensor)
    return Compared(values, modality.scale(values), regional_factor=modality.regional_factor)
