"""The chain `mrtrix3` of corrections: each of its steps where it is switched on, in their order.

Dwidenoise, mrdegibbs, dwifslpreproc, dwibiascorrect. One series with one phase-encoding direction:
no field map, so no susceptibility correction.

References
----------
Veraart et al. (2016), NeuroImage 142:394, https://doi.org/10.1016/j.neuroimage.2016.08.016;
Kellner et al. (2016), MRM 76:1574, https://doi.org/10.1002/mrm.26054;
Andersson & Sotiropoulos (2016), NeuroImage 125:1063,
https://doi.org/10.1016/j.neuroimage.2015.10.019;
Tustison et al. (2010), IEEE TMI 29:1310, https://doi.org/10.1109/TMI.2010.2046908
"""

from pathlib import Path

from m2m.diffusion import mrtrix3
from m2m.diffusion.dwi import Dwi, eddy_model
from m2m.io.programs import Call
from m2m.options import Preprocess


def correct(
    dwi_path: Path,
    gradients: tuple[Path, Path],
    series: Dwi,
    options: Preprocess,
    scratch: Path,
    threads: int,
) -> tuple[Path, tuple[Path, Path], list[Call]]:
    """Run the chain `mrtrix3`; gradients travel in the images' headers.

    Parameters
    ----------
    dwi_path : path
    gradients : (path, path)
        bvec and bval, as FSL's own tools order them.
    series : Dwi
        The same series, loaded.
    options : Preprocess
    scratch : path
        An existing folder for what lies between.
    threads : int

    Returns
    -------
    image, (bvec, bval), calls

    Raises
    ------
    ProgramError
        A program is missing or failed.
    """
    n = {"threads": threads}
    image = scratch / "0-raw.mif"
    calls = [mrtrix3.mrconvert(dwi_path, image, fslgrad=gradients, **n)]
    if options.denoise:
        before, image = image, scratch / "1-denoised.mif"
        calls.append(mrtrix3.dwidenoise(before, image, **n))
    if options.degibbs:
        before, image = image, scratch / "2-degibbs.mif"
        calls.append(mrtrix3.mrdegibbs(before, image, **n))
    if options.eddy:
        before, image = image, scratch / "3-eddy.mif"
        acquired = {"phase_encoding": options.phase_encoding, "readout_s": options.readout_s}
        folder = scratch / "dwifslpreproc"
        slm = eddy_model(series.bvals)
        calls.append(mrtrix3.dwifslpreproc(before, image, **acquired, slm=slm, scratch=folder, **n))
    if options.bias:
        before, image = image, scratch / "4-unbiased.mif"
        folder = scratch / "dwibiascorrect"
        calls.append(
            mrtrix3.dwibiascorrect(
                before, image, algorithm=options.bias_algorithm, scratch=folder, **n
            )
        )
    out, exported = scratch / "out.nii.gz", (scratch / "out.bvec", scratch / "out.bval")
    calls.append(mrtrix3.mrconvert(image, out, export_fslgrad=exported, **n))
    return out, exported, calls
