"""The preprocessing backend `fsl`: bet for a mask, then eddy, through fslpy's wrappers.

It corrects one series with one phase-encoding direction. There is no field map, and so no correction
of susceptibility distortion.

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
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.io import volume
from m2m.io.programs import Call
from m2m.io.volume import Volume
from m2m.options import Preprocess

# World direction (RAS+) of each code, from its first to its second letter.
WORLD = {"LR": (1, 0, 0), "RL": (-1, 0, 0), "PA": (0, 1, 0), "AP": (0, -1, 0), "IS": (0, 0, 1), "SI": (0, 0, -1)}


def acquisition_row(phase_encoding: str, affine: NDArray, readout_s: float) -> list[float]:
    """Eddy's row of one acquisition: phase-encoding direction in FSL's axes, and readout time.

    Parameters
    ----------
    phase_encoding : str
        ``AP``, ``LR``…: anatomical, from first to second letter.
    affine : ndarray, shape (4, 4)
    readout_s : float
        Total readout time.

    Returns
    -------
    list of four floats
        One of the first three is 1 or -1, the others 0.
    """
    along = fsl_axes(affine).T @ np.array(WORLD[phase_encoding], dtype=float)
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
    """Run the backend `fsl`: bet on the mean b = 0 image, then eddy inside its mask.

    Parameters
    ----------
    dwi_path : path
    gradients : (path, path)
        bvec and bval.
    series : Dwi
        The same series, loaded.
    options : Preprocess
    scratch : path
        An existing folder for intermediate files.
    threads : int
        Ignored: FSL's programs use one.

    Returns
    -------
    image : path
    gradients : (path, path)
        bvec, rotated with the head's motion, and bval.
    calls : list of Call
        That of eddy; bet's is not recorded.

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
    slm = dwi.eddy_model(series.bvals, series.b0_threshold)
    call = fsl.eddy(dwi_path, mask, index, acquisition, gradients, out, slm=slm)
    return Path(f"{out}.nii.gz"), (Path(f"{out}.eddy_rotated_bvecs"), gradients[1]), [call]
