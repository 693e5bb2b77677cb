"""The preprocessing backend `mrtrix3`: those of its steps that are switched on, in order.

The steps are dwidenoise, mrdegibbs, dwifslpreproc and dwibiascorrect. They correct one series with
one phase-encoding direction. There is no field map, and so no correction of susceptibility distortion.

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
    """Run the backend `mrtrix3`; gradients are stored in the intermediate images' headers.

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

    Returns
    -------
    image : path
    gradients : (path, path)
        bvec and bval.
    calls : list of Call

    Raises
    ------
    ProgramError
        A program is missing or failed.
    """
    image = scratch / "0-raw.mif"
    calls = [mrtrix3.mrconvert(dwi_path, image, fslgrad=gradients, threads=threads)]
    if options.denoise:
        before, image = image, scratch / "1-denoised.mif"
        calls.append(mrtrix3.dwidenoise(before, image, threads=threads))
    if options.degibbs:
        before, image = image, scratch / "2-degibbs.mif"
        calls.append(mrtrix3.mrdegibbs(before, image, threads=threads))
    if options.eddy:
        before, image = image, scratch / "3-eddy.mif"
        eddy = mrtrix3.dwifslpreproc(
            before,
            image,
            phase_encoding=options.phase_encoding,
            readout_s=options.readout_s,
            slm=eddy_model(series.bvals, series.b0_threshold),
            scratch=scratch / "dwifslpreproc",
            threads=threads,
        )
        calls.append(eddy)
    if options.bias:
        before, image = image, scratch / "4-unbiased.mif"
        folder = scratch / "dwibiascorrect"
        calls.append(
            mrtrix3.dwibiascorrect(before, image, algorithm=options.bias_algorithm, scratch=folder, threads=threads)
        )
    out, exported = scratch / "out.nii.gz", (scratch / "out.bvec", scratch / "out.bval")
    calls.append(mrtrix3.mrconvert(image, out, export_fslgrad=exported, threads=threads))
    return out, exported, calls
