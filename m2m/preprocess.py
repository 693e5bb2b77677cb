"""The stage `preprocess`: corrections of a diffusion series by MRtrix3 or FSL, before the fit.

Chain `mrtrix3`: dwidenoise, mrdegibbs, dwifslpreproc, dwibiascorrect, each where chosen, in
that order. Chain `fsl`: bet for a mask, then eddy, through fslpy's wrappers. Both correct one
series with one phase-encoding direction: no field map, so no susceptibility correction.

References
----------
Veraart et al. (2016), NeuroImage 142:394, https://doi.org/10.1016/j.neuroimage.2016.08.016;
Kellner et al. (2016), MRM 76:1574, https://doi.org/10.1002/mrm.26054;
Andersson & Sotiropoulos (2016), NeuroImage 125:1063,
https://doi.org/10.1016/j.neuroimage.2015.10.019;
Tustison et al. (2010), IEEE TMI 29:1310, https://doi.org/10.1109/TMI.2010.2046908
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from fsl.wrappers.eddy import eddy
from numpy.typing import NDArray

from m2m import dwi, mrtrix3, stage, volume
from m2m import options as sections
from m2m.bids import files_of, unit_of
from m2m.configured import section_of
from m2m.dwi import Dwi
from m2m.stage_flags import ConfigFile, Root, Session, Subject
from m2m.volume import Volume

# Below this number of directions eddy's authors advise a linear model of its fields over them.
FEW_DIRECTIONS = 60
# World direction (RAS+) in which each code's second letter lies.
WORLD = {
    "LR": (1, 0, 0), "RL": (-1, 0, 0), "PA": (0, 1, 0),
    "AP": (0, -1, 0), "IS": (0, 0, 1), "SI": (0, 0, -1),
}  # fmt: skip


def eddy_model(bvals: NDArray) -> Literal["none", "linear"]:
    """Eddy's ``--slm``: a linear model where directions are few.

    References
    ----------
    FSL, eddy user guide, ``--slm``
    """
    return "linear" if (bvals > dwi.B0_S_PER_MM2).sum() < FEW_DIRECTIONS else "none"


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


def by_mrtrix3(
    dwi_path: Path,
    gradients: tuple[Path, Path],
    options: sections.Preprocess,
    slm: Literal["none", "linear"],
    scratch: Path,
    threads: int,
) -> tuple[Path, tuple[Path, Path], list[mrtrix3.Call]]:
    """Run the chain `mrtrix3`; gradients travel in the images' headers.

    Parameters
    ----------
    dwi_path : path
    gradients : (path, path)
        bvec and bval, as FSL's own tools order them.
    options : Preprocess
    slm : str
        See `eddy_model`.
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


def by_fsl(
    dwi_path: Path,
    gradients: tuple[Path, Path],
    series: Dwi,
    options: sections.Preprocess,
    slm: Literal["none", "linear"],
    scratch: Path,
) -> tuple[Path, tuple[Path, Path], list[mrtrix3.Call]]:
    """Run the chain `fsl`: bet on the mean b = 0 image, then eddy inside its mask.

    Parameters
    ----------
    dwi_path : path
    gradients : (path, path)
        bvec and bval.
    series : Dwi
        The same series, loaded.
    options : Preprocess
    slm : str
        See `eddy_model`.
    scratch : path
        An existing folder for what lies between.

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
    bvec, bval = gradients
    call = dwi.run_fsl(
        eddy, str(dwi_path), str(mask), str(index), str(acquisition), str(bvec), str(bval),
        str(out), slm=slm,
    )  # fmt: skip
    return Path(f"{out}.nii.gz"), (Path(f"{out}.eddy_rotated_bvecs"), bval), [call]


def main(
    root: Root,
    subject: Subject,
    dwi_path: Annotated[Path, typer.Option("--dwi", help="Diffusion series, 4D")],
    bval: Annotated[Path, typer.Option(help="b-values, FSL format")],
    bvec: Annotated[Path, typer.Option(help="Directions, FSL format")],
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[
        str | None, typer.Option(help="Section preprocess of the configuration, JSON")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each MRtrix3 command")] = 1,
) -> None:
    """Correct a diffusion series with MRtrix3 or FSL."""
    unit = unit_of(subject, session)
    at = files_of(unit, root)
    correct_unit(
        unit, dwi_path, bval, bvec, at("dwi"), at("bval"), at("bvec"), at("preprocess-status"),
        section_of("preprocess", config, options), threads,
    )  # fmt: skip


def correct_unit(
    unit: str,
    dwi_path: Path,
    bval: Path,
    bvec: Path,
    out_dwi: Path,
    out_bval: Path,
    out_bvec: Path,
    status: Path,
    section: sections.Preprocess,
    threads: int = 1,
) -> None:
    """Correct one unit's series; bad data end in its status, with empty files."""
    if section.chain == "none":
        raise ValueError("preprocess.chain is none: there is nothing to run")
    outputs = [out_dwi, out_bval, out_bvec]
    with (
        stage.recorded("preprocess", unit, status, outputs) as record,
        dwi.findings_about(dwi_path),
    ):
        series = dwi.load(dwi_path, bval, bvec)
        slm = eddy_model(series.bvals)
        with tempfile.TemporaryDirectory(prefix="m2m-preprocess-") as name:
            scratch = Path(name)
            if section.chain == "mrtrix3":
                image, gradients, calls = by_mrtrix3(
                    dwi_path, (bvec, bval), section, slm, scratch, threads
                )
            else:
                image, gradients, calls = by_fsl(
                    dwi_path, (bvec, bval), series, section, slm, scratch
                )
            record |= {"chain": section.chain, "programs": [_described(c) for c in calls]}
            corrected = dwi.load(image, gradients[1], gradients[0])
            volume.save(
                out_dwi,
                corrected.volume,
                [dwi_path, bval, bvec],
                Description=f"Diffusion series corrected by the chain {section.chain}",
                SkullStripped=False,
            )
            stage.write_text(out_bval, gradients[1].read_text())
            stage.write_text(out_bvec, gradients[0].read_text())


def _described(call: mrtrix3.Call) -> dict[str, Any]:
    """A call for the record, file names without the folders of this machine."""
    return {
        "arguments": [Path(a).name if "/" in a else a for a in call.arguments],
        "version": call.version,
        "exit_status": call.exit_status,
    }
