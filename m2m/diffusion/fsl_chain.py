"""The chain `fsl` of corrections: bet for a mask, then eddy, through fslpy's wrappers.

One series with one phase-encoding direction: no field map, so no susceptibility correction.

References
----------
Andersson & Sotiropoulos (2016), NeuroImage 125:1063,
https://doi.org/10.1016/j.neuroimage.2015.10.019
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import dwi, fsl
from m2m.diffusion.dwi import Dwi
from m2m.io import volume
from m2m.io.programs import Call
from m2m.io.volume import Volume
from m2m.options import Preprocess

# World direction (RAS+) in which each code's second letter lies.
WORLD = {
    "LR": (1, 0, 0), "RL": (-1, 0, 0), "PA": (0, 1, 0),
    "AP": (0, -1, 0), "IS": (0, 0, 1), "SI": (0, 0, -1),
}  # fmt: skip


def acquisition_row(phase_encoding: str, affine: NDArray, readout_s: float) -> list[float]:
    """Eddy's row for one acquisition: phase-encoding direction in FSL's axes, readout time.

    Parameters
    ----------
    phase_encoding : str
        ``AP``, ``LR``…: anatomical, from where to where.
    affine : ndarray, shape (4, 4)
    readout_s : float

    Returns
    -------
    list of four floats
        One of the first three is 1 or -1, the others 0.
    """
    along = dwi.fsl_axes(affine).T @ np.array(WORLD[phase_encoding], dtype=float)
    row = np.zeros(3)
    axis = np.abs(along).argmax()
    row[axis] = np.sign(along[axis])
    return [*row.tolist(), readout_s]


def correct(
    dwi_path: Path,
    gradients: tuple[Path, Path],
    series: Dwi,
    options: Preprocess,
    scratch: Path,
    threads: int,
) -> tuple[Path, tuple[Path, Path], list[Call]]:
    """Run the chain `fsl`: bet on the mean b = 0 image, then eddy inside its mask.

    Parameters
    ----------
    dwi_path : path
    gradients : (path, path)
        bvec and bval.
    series : Dwi
        The same series, loaded.
    options : Preprocess
    scratch : path
        An existing folder for what lies between.
    threads : int
        FSL's programs take one.

    Returns
    -------
    image, (bvec, bval), calls
        The directions are rotated with the head's motion; bet's call is not among them.

    Raises
    ------
    ProgramError
        FSL is missing, or bet or eddy failed.
    """
    affine = series.volume.affine
    brain = dwi.bet_mask(dwi.mean_b0(series), options.bet_fraction)
    mask, out = scratch / "mask.nii.gz", scratch / "eddy"
    volume.save(mask, Volume(brain, affine), [dwi_path], np.uint8)
    acquisition, index = scratch / "acqparams.txt", scratch / "index.txt"
    row = acquisition_row(options.phase_encoding, affine, options.readout_s)
    np.savetxt(acquisition, [row], fmt="%g")
    np.savetxt(index, np.ones((1, len(series.bvals))), fmt="%d")
    slm = dwi.eddy_model(series.bvals)
    call = fsl.eddy(dwi_path, mask, index, acquisition, gradients, out, slm=slm)
    return Path(f"{out}.nii.gz"), (Path(f"{out}.eddy_rotated_bvecs"), gradients[1]), [call]
