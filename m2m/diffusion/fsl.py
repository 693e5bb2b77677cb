"""FSL's commands through fslpy's wrappers, as typed functions.

Each function runs one command and returns its `Call`. A command that is not installed or fails
raises `ProgramError`.

References
----------
McCarthy, fslpy, https://doi.org/10.5281/zenodo.1470749
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fsl import wrappers
from fsl.utils.platform import platform
from fsl.utils.run import FSLNotPresent

from m2m.io.programs import Call, ProgramMissing, failure


def run(wrapper: Callable, *arguments: str, **options: object) -> Call:
    """Run one of FSL's commands through its fslpy wrapper.

    Raises
    ------
    ProgramError
        FSL is not installed, or the command failed; the message has the last line of its standard
        error and its log.
    """
    name = wrapper.__name__
    # Older versions of FSL have no default, and a site's own default would change file names.
    os.environ["FSLOUTPUTTYPE"] = "NIFTI_GZ"
    try:
        command = wrapper(*arguments, cmdonly=True, **options)
        done = wrapper(*arguments, stderr=True, exitcode=True, **options)
    except (FSLNotPresent, FileNotFoundError) as error:
        raise ProgramMissing(f"{name} cannot be run: {error}; install FSL and set FSLDIR") from error
    out, err, status = done.stdout
    if status != 0:
        raise failure(name, status, out + err)
    return Call(tuple(command), platform.fslVersion or "unknown", out + err, status)


def bet(image: Path, out: Path, *, fraction: float) -> Call:
    """Find the brain.

    Parameters
    ----------
    image : path
    out : path
        Prefix; the mask is ``<out>_mask.nii.gz``.
    fraction : float
        0 to 1; smaller gives a larger brain.

    Returns
    -------
    Call

    References
    ----------
    Smith (2002), Hum Brain Mapp 17:143, https://doi.org/10.1002/hbm.10062
    """
    options = {"mask": True, "seg": False, "fracintensity": fraction}
    return run(wrappers.bet, str(image), str(out), **options)


def eddy(
    dwi: Path,
    mask: Path,
    index: Path,
    acquisition: Path,
    gradients: tuple[Path, Path],
    out: Path,
    *,
    slm: Literal["none", "linear"],
) -> Call:
    """Correct eddy currents and motion of a series inside a mask.

    Parameters
    ----------
    dwi, mask : path
    index : path
        Row number of each volume in `acquisition`.
    acquisition : path
        Rows of phase-encoding direction and readout time.
    gradients : (path, path)
        bvec and bval.
    out : path
        Prefix of eddy's outputs.
    slm : {"none", "linear"}
        Model of the eddy-current fields over directions.

    Returns
    -------
    Call

    References
    ----------
    Andersson & Sotiropoulos (2016), NeuroImage 125:1063,
    https://doi.org/10.1016/j.neuroimage.2015.10.019
    """
    paths = (dwi, mask, index, acquisition, *gradients, out)
    return run(wrappers.eddy, *(str(path) for path in paths), slm=slm)
