"""Power of both images by spatial frequency, and their coherence: whether fine detail is real.

References
----------
Fourier shell correlation: Harauz and van Heel (1986), Optik 73:146-156; van Heel and Schatz
(2005), J Struct Biol 151:250-262, https://doi.org/10.1016/j.jsb.2005.05.009.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

# Shells of equal width from 0 to the Nyquist frequency.
N_SHELLS = 24
# Width of the mask's soft edge in voxels: both images share the edge, and a sharp one would add
# coherence.
TAPER_VOXELS = 3
# Structures larger than 50 mm are common to all participants and are assessed by SSIM and bias.
LOWEST_PER_MM = 0.02


class Spectrum(NamedTuple):
    """Spectra of two images; every attribute has shape (`N_SHELLS`,).

    Attributes
    ----------
    frequency_per_mm : ndarray
        Middle of each shell.
    reference_power, synthetic_power : ndarray
        Mean power spectral density: squared unit of the image times mm3; NaN in a shell without
        frequencies, on a small grid.
    coherence : ndarray
        Fourier shell correlation, -1 to 1; NaN where an image has no power.
    """

    frequency_per_mm: NDArray
    reference_power: NDArray
    synthetic_power: NDArray
    coherence: NDArray

    def metrics(self) -> dict[str, float]:
        """Summarise the curves.

        Returns
        -------
        dict
            spectrum_error: mean absolute log10 of synthetic over reference power above `LOWEST_PER_MM`.
            high_coherence: mean coherence in the upper half of the frequencies.
        """
        fine = self.frequency_per_mm > LOWEST_PER_MM
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(np.log10(self.synthetic_power[fine] / self.reference_power[fine])).mean()
        return {
            "spectrum_error": float(error) if np.isfinite(error) else float("nan"),
            "high_coherence": float(self.coherence[N_SHELLS // 2 :].mean()),
        }

    def rows(self) -> list[dict[str, float]]:
        """List one row per shell."""
        return [dict(zip(self._fields, map(float, values), strict=True)) for values in zip(*self, strict=True)]


def spectrum(reference: NDArray, synthetic: NDArray, mask: NDArray[np.bool_], spacing_mm: NDArray) -> Spectrum:
    """Compare two images by spatial frequency, averaged over directions.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    mask : ndarray of bool, shape (X, Y, Z)
        Not empty. The mean inside the mask is subtracted from each image; outside it is 0.
    spacing_mm : ndarray, shape (3,)

    Returns
    -------
    Spectrum
    """
    weight = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    weight = np.minimum(weight / TAPER_VOXELS, 1).astype(np.float32)
    a, b = (
        fft.fftn(weight * (image - np.average(image, weights=weight)).astype(np.float32))
        for image in (reference, synthetic)
    )
    axes = (fft.fftfreq(n, d) ** 2 for n, d in zip(mask.shape, spacing_mm, strict=True))
    frequency = np.sqrt(sum(np.ix_(*axes)))
    nyquist = 0.5 / float(np.max(spacing_mm))
    shell = (N_SHELLS * frequency / nyquist).astype(int)
    inside = (frequency > 0) & (shell < N_SHELLS)

    def total(values: NDArray) -> NDArray:
        return np.bincount(shell[inside], values[inside], N_SHELLS)

    power_a, power_b, cross = (total((x * y.conj()).real) for x, y in ((a, a), (b, b), (a, b)))
    density = np.prod(spacing_mm) / np.sum(weight**2, dtype=np.float64)
    middle = (np.arange(N_SHELLS) + 0.5) * nyquist / N_SHELLS
    with np.errstate(divide="ignore", invalid="ignore"):
        coherence = cross / np.sqrt(power_a * power_b)
        per_frequency = density / total(np.ones_like(frequency))
        powers = (power_a * per_frequency, power_b * per_frequency)
    return Spectrum(middle, *powers, coherence)
