"""What of a map is compared, by its nature: images of data range 1, regional values, directions.

A scalar map is compared on its scale: FA as it is. Tract density is compared on its logarithmic
scale, so that Pearson's r is the correlation of log density; regions and Dice's overlap are of
the density itself. Tensors are compared by the FA derived from them, and by mean diffusivity,
direction and log-Euclidean distance.
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from m2m.diffusion import tensors
from m2m.io.modalities import MODALITIES


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
