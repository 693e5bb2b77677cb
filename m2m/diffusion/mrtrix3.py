"""MRtrix3's commands as typed functions: a list of arguments, without a shell.

Each function runs one command and returns its `Call`: arguments, version, log and exit status.
A command that is not installed or fails raises `ProgramError`. Parameters of several functions:
`threads`, their number, None for MRtrix3's default; `grad`, a gradient table of MRtrix3, x y z b in
rows and scanner axes; `scratch`, a folder for intermediate files, which must not exist.

References
----------
Tournier et al. (2019), NeuroImage 202:116137, https://doi.org/10.1016/j.neuroimage.2019.116137
"""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from m2m.io import programs
from m2m.io.programs import Call

# Random positions that are tried, at most, for each seed.
TRIES = 100


def run(*arguments: str | Path | float, seed: int | None = None) -> Call:
    """Run one MRtrix3 command to its end.

    Parameters
    ----------
    *arguments : str, path or float
        The command and its arguments, passed unchanged.
    seed : int, optional
        Of its random numbers; runs in one thread are then reproducible.

    Returns
    -------
    Call

    Raises
    ------
    ProgramError
        The command is not on PATH, or its exit status is not 0; the message has the last line
        of its standard error and its log.
    """
    variables = {} if seed is None else {"MRTRIX_RNG_SEED": str(seed)}
    return programs.run(*arguments, suite="MRtrix3", version=version, variables=variables)


@functools.cache
def version() -> str:
    """Version of the installed MRtrix3, e.g. ``3.0.3``, or ``unknown``."""
    # A compiled command is used: MRtrix3's Python scripts do not know their version.
    if shutil.which("mrconvert") is None:
        return "unknown"
    output = programs.finished(("mrconvert", "-version"))[1].split()
    return output[2] if len(output) > 2 else "unknown"


def _options(**values: object) -> list[str | Path | float]:
    """Arguments ``-name value…``; True gives a flag, None and False give nothing."""
    arguments: list[str | Path | float] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        own = () if value is True else value if isinstance(value, tuple) else (value,)
        arguments += [f"-{name}", *own]
    return arguments


def mrconvert(
    image: Path,
    out: Path,
    *,
    fslgrad: tuple[Path, Path] | None = None,
    export_fslgrad: tuple[Path, Path] | None = None,
    threads: int | None = None,
) -> Call:
    """Convert an image, with its gradients.

    Parameters
    ----------
    image, out : path
    fslgrad, export_fslgrad : (path, path), optional
        FSL's (bvec, bval) files to read, and to write.
    """
    gradients = _options(fslgrad=fslgrad, export_grad_fsl=export_fslgrad)
    return run("mrconvert", image, out, *gradients, *_options(nthreads=threads))


def dwidenoise(dwi: Path, out: Path, *, threads: int | None = None) -> Call:
    """Denoise by Marchenko-Pastur PCA; the first step, before any interpolation.

    Parameters
    ----------
    dwi, out : path

    References
    ----------
    Veraart et al. (2016), NeuroImage 142:394, https://doi.org/10.1016/j.neuroimage.2016.08.016
    """
    return run("dwidenoise", dwi, out, *_options(nthreads=threads))


def mrdegibbs(image: Path, out: Path, *, threads: int | None = None) -> Call:
    """Remove Gibbs ringing by local subvoxel shifts, within the slices (axes 0 and 1).

    Parameters
    ----------
    image, out : path

    References
    ----------
    Kellner et al. (2016), MRM 76:1574, https://doi.org/10.1002/mrm.26054
    """
    return run("mrdegibbs", image, out, *_options(nthreads=threads))


def dwifslpreproc(
    dwi: Path,
    out: Path,
    *,
    phase_encoding: str,
    readout_s: float,
    slm: Literal["none", "linear"],
    scratch: Path,
    threads: int | None = None,
) -> Call:
    """Correct eddy currents and motion with FSL's eddy; one phase-encoding direction.

    Parameters
    ----------
    dwi, out, scratch : path
    phase_encoding : str
        ``AP``, ``LR``…: from first to second letter.
    readout_s : float
        Total readout time.
    slm : {"none", "linear"}
        eddy's model of the eddy-current fields over directions.
    """
    # The leading space keeps MRtrix3 from reading the value as an option of its own.
    eddy = {"readout_time": readout_s, "eddy_options": f" --slm={slm}"}
    acquired = _options(rpe_none=True, pe_dir=phase_encoding, **eddy)
    return run("dwifslpreproc", dwi, out, *acquired, *_options(scratch=scratch, nthreads=threads))


def dwibiascorrect(
    dwi: Path,
    out: Path,
    *,
    algorithm: Literal["ants", "fsl"],
    scratch: Path,
    threads: int | None = None,
) -> Call:
    """Divide by the smooth receive field that ANTs' N4 or FSL's fast finds in the b = 0 image.

    Parameters
    ----------
    dwi, out, scratch : path
    algorithm : {"ants", "fsl"}
    """
    options = _options(scratch=scratch, nthreads=threads)
    return run("dwibiascorrect", algorithm, dwi, out, *options)


def dwi2tensor(
    dwi: Path,
    out: Path,
    *,
    ols: bool = False,
    iterations: int = 2,
    fslgrad: tuple[Path, Path] | None = None,
    mask: Path | None = None,
    threads: int | None = None,
) -> Call:
    """Fit tensors: volumes D11 D22 D33 D12 D13 D23 in scanner axes, mm2/s.

    Parameters
    ----------
    dwi, out : path
    ols : bool
        First fit without weights; otherwise it is weighted by the squared signal.
    iterations : int
        Further fits, weighted by the squared prediction of the previous one.
    fslgrad : (path, path), optional
        FSL's (bvec, bval) files; otherwise the image's header has the gradients.
    mask : path, optional

    References
    ----------
    Veraart et al. (2013), NeuroImage 81:335, https://doi.org/10.1016/j.neuroimage.2013.05.028
    """
    options = _options(ols=ols, iter=iterations, fslgrad=fslgrad, mask=mask, nthreads=threads)
    return run("dwi2tensor", dwi, out, *options)


def tensor2metric(
    tensor: Path,
    *,
    fa: Path | None = None,
    adc: Path | None = None,
    ad: Path | None = None,
    rd: Path | None = None,
    vector: Path | None = None,
    threads: int | None = None,
) -> Call:
    """Compute maps of a tensor image.

    Parameters
    ----------
    tensor : path
    fa, adc, ad, rd, vector : path, optional
        Maps to write; `vector` is the first eigenvector, of unit length.
    """
    modulate = "none" if vector else None
    maps = _options(fa=fa, adc=adc, ad=ad, rd=rd, modulate=modulate, vector=vector)
    return run("tensor2metric", tensor, *maps, *_options(nthreads=threads))


def dwi2response(
    dwi: Path,
    out: Sequence[Path],
    *,
    algorithm: Literal["tournier", "dhollander"],
    grad: Path,
    mask: Path,
    scratch: Path,
    threads: int | None = None,
) -> Call:
    """Estimate the signal of one fibre (tournier), or of three tissues (dhollander).

    Parameters
    ----------
    dwi : path
    out : sequence of paths
        Response functions: of white matter; with dhollander also of grey matter and CSF.
    algorithm : {"tournier", "dhollander"}
    grad, mask, scratch : path

    References
    ----------
    Tournier et al. (2013), NMR Biomed 26:1775, https://doi.org/10.1002/nbm.3017;
    Dhollander et al. (2016), ISMRM Workshop on Breaking the Barriers of Diffusion MRI, 5
    """
    options = _options(grad=grad, mask=mask, scratch=scratch, nthreads=threads)
    return run("dwi2response", algorithm, dwi, *out, *options)


def dwi2fod(
    dwi: Path,
    pairs: Sequence[tuple[Path, Path]],
    *,
    algorithm: Literal["csd", "msmt_csd"],
    grad: Path,
    mask: Path,
    threads: int | None = None,
) -> Call:
    """Fit fibre orientation distributions by constrained spherical deconvolution.

    Parameters
    ----------
    dwi : path
    pairs : sequence of (path, path)
        Response function of a tissue, and its distribution, which is written.
    algorithm : {"csd", "msmt_csd"}
    grad, mask : path

    References
    ----------
    Tournier et al. (2007), NeuroImage 35:1459, https://doi.org/10.1016/j.neuroimage.2007.02.016;
    Jeurissen et al. (2014), NeuroImage 103:411, https://doi.org/10.1016/j.neuroimage.2014.07.061
    """
    paths = [path for pair in pairs for path in pair]
    options = _options(grad=grad, mask=mask, nthreads=threads)
    return run("dwi2fod", algorithm, dwi, *paths, *options)


def tckgen(
    source: Path,
    out: Path,
    *,
    algorithm: Literal["iFOD2", "SD_STREAM", "Tensor_Det", "FACT"],
    seeds: Path,
    n_seeds: int,
    per_voxel: bool,
    mask: Path,
    cutoff: float,
    angle_deg: float,
    step_mm: float,
    length_mm: tuple[float, float],
    seed: int,
    grad: Path | None = None,
    act: Path | None = None,
) -> Call:
    """Track from random positions in a mask, in one thread so that runs are reproducible.

    Parameters
    ----------
    source : path
        FODs (iFOD2, SD_STREAM), a diffusion series (Tensor_Det) or directions (FACT).
    out : path
    algorithm : {"iFOD2", "SD_STREAM", "Tensor_Det", "FACT"}
    seeds, mask : path
        Voxels where streamlines begin, and those that they must not leave.
    n_seeds : int
        Of each voxel, if `per_voxel`; otherwise of all voxels together, and only seeds with a
        streamline count. FACT and SD_STREAM try a random direction at each seed and mostly fail.
    per_voxel : bool
    cutoff : float
        Least amplitude of the FOD, FA of the tensor or length of the direction.
    angle_deg, step_mm : float
        Largest angle between two steps, and length of a step.
    length_mm : (float, float)
        Shorter streamlines are rejected, longer ones are truncated.
    seed : int
        Of the random numbers.
    grad : path, optional
        If `source` is a series.
    act : path, optional
        Five-tissue image for anatomically-constrained tractography.

    References
    ----------
    Tournier et al. (2010), ISMRM 18:1670 (iFOD2); Tournier et al. (2012), Int J Imaging Syst
    Technol 22:53, https://doi.org/10.1002/ima.22005 (SD_STREAM); Basser et al. (2000), MRM
    44:625, https://doi.org/10.1002/1522-2594(200010)44:4<625::AID-MRM17>3.0.CO;2-O (Tensor_Det);
    Mori et al. (1999), Ann Neurol 45:265 (FACT); Smith et al. (2012), NeuroImage 62:1924,
    https://doi.org/10.1016/j.neuroimage.2012.06.005 (act)
    """
    begin: dict[str, object]
    if per_voxel:
        begin = {"seed_random_per_voxel": (seeds, n_seeds), "select": 0}
    else:
        begin = {"seed_image": seeds, "seeds": TRIES * n_seeds, "select": n_seeds}
    step = {"cutoff": cutoff, "angle": angle_deg, "step": step_mm}
    length = {"minlength": length_mm[0], "maxlength": length_mm[1]}
    options = _options(algorithm=algorithm, **begin, mask=mask, **step, **length)
    options += _options(grad=grad, act=act, nthreads=0)
    return run("tckgen", source, out, *options, seed=seed)


def tckmap(
    tracks: Path,
    out: Path,
    *,
    template: Path,
    upsample: int | None = None,
    threads: int | None = None,
) -> Call:
    """Count the streamlines that cross each voxel of a template's grid.

    Parameters
    ----------
    tracks, out : path
    template : path
        Image on the grid.
    upsample : int, optional
        Number of parts of each step.

    References
    ----------
    Calamante et al. (2010), NeuroImage 53:1233, https://doi.org/10.1016/j.neuroimage.2010.07.024
    """
    options = _options(template=template, upsample=upsample, nthreads=threads)
    return run("tckmap", tracks, out, *options)


def tcksift2(tracks: Path, fod: Path, weights: Path, *, mu: Path, act: Path | None = None) -> Call:
    """Weight streamlines so that their density fits the FODs, in one thread: reproducibly.

    Parameters
    ----------
    tracks, fod : path
    weights : path
        Text, written: one number per streamline.
    mu : path
        Text, written: the proportionality coefficient.
    act : path, optional
        Five-tissue image.

    References
    ----------
    Smith et al. (2015), NeuroImage 119:338, https://doi.org/10.1016/j.neuroimage.2015.06.092
    """
    return run("tcksift2", tracks, fod, weights, *_options(out_mu=mu, act=act, nthreads=0))


def five_tissues(t1w: Path, out: Path, *, scratch: Path, threads: int | None = None) -> Call:
    """Segment a T1 into five tissues for ACT, by FSL's programs (``5ttgen fsl``).

    Parameters
    ----------
    t1w, out, scratch : path

    References
    ----------
    Smith et al. (2012), NeuroImage 62:1924, https://doi.org/10.1016/j.neuroimage.2012.06.005
    """
    return run("5ttgen", "fsl", t1w, out, *_options(scratch=scratch, nthreads=threads))
