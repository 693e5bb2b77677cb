"""Is it sharp because it is true? Power of both images by spatial frequency, and their coherence.

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
# The mask rises from 0 to 1 over so many voxels: both images share its edge, which would pass for
# coherence if it were sharp.
TAPER_VOXELS = 3
# Structures larger than 50 mm are everybody's, and are seen in SSIM and bias.
LOWEST_PER_MM = 0.02


class Spectrum(NamedTuple):
    """Two images by spatial frequency; every attribute has shape (`N_SHELLS`,).

    Attributes
    ----------
    frequency_per_mm : ndarray
        Middle of each shell.
    true_power, synthetic_power : ndarray
        Mean power spectral density: squared unit of the image times mm3; NaN in a shell that a
        small grid has no frequency in.
    coherence : ndarray
        Fourier shell correlation, -1 to 1; NaN where an image has no power.
    """

    frequency_per_mm: NDArray
    true_power: NDArray
    synthetic_power: NDArray
    coherence: NDArray

    def metrics(self) -> dict[str, float]:
        """Sum up the curves.

        Returns
        -------
        dict
            spectrum_error: mean size of log10(synthetic over true power) above `LOWEST_PER_MM`.
            high_coherence: mean coherence in the upper half of the frequencies.
        """
        fine = self.frequency_per_mm > LOWEST_PER_MM
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(np.log10(self.synthetic_power[fine] / self.true_power[fine])).mean()
        return {
            "spectrum_error": float(error) if np.isfinite(error) else float("nan"),
            "high_coherence": float(self.coherence[N_SHELLS // 2 :].mean()),
        }

    def rows(self) -> list[dict[str, float]]:
        """One row per shell."""
        return [
            dict(zip(self._fields, map(float, values), strict=True))
            for values in zip(*self, strict=True)
        ]


def spectrum(
    true: NDArray, synthetic: NDArray, mask: NDArray[np.bool_], spacing_mm: NDArray
) -> Spectrum:
    """Compare two images by spatial frequency, whatever the direction.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
    mask : ndarray of bool, shape (X, Y, Z)
        Not empty. Each image is taken about its mean in it, and is 0 outside.
    spacing_mm : ndarray, shape (3,)
    """
    weight = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    weight = np.minimum(weight / TAPER_VOXELS, 1).astype(np.float32)
    a, b = (
        fft.fftn(weight * (image - np.average(image, weights=weight)).astype(np.float32))
        for image in (true, synthetic)
    )
    axes = (fft.fftfreq(n, d) ** 2 for n, d in zip(mask.shape, spacing_mm, strict=True))
    frequency = np.sqrt(sum(np.ix_(*axes)))
    nyquist = 0.5 / float(np.max(spacing_mm))
    shell = (N_SHELLS * frequency / nyquist).astype(int)
    inside = (frequency > 0) & (shell < N_SHELLS)

    def total(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(shell[inside], values[inside], N_SHELLS)

    power_a, power_b, cross = (total((x * y.conj()).real) for x, y in ((a, a), (b, b), (a, b)))
    density = np.prod(spacing_mm) / np.sum(weight**2, dtype=np.float64)
    middle = (np.arange(N_SHELLS) + 0.5) * nyquist / N_SHELLS
    with np.errstate(divide="ignore", invalid="ignore"):
        coherence = cross / np.sqrt(power_a * power_b)
        per_frequency = density / total(np.ones_like(frequency))
        powers = (power_a * per_frequency, power_b * per_frequency)
    return Spectrum(middle, *powers, coherence)
