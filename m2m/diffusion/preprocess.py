"""The stage `preprocess`: corrections of a diffusion series by the chosen backend, before the fit.

`m2m.options.preprocess_backends` has a record of each backend; all correct one series with one
phase-encoding direction.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m import options as sections
from m2m.diffusion import dwi
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.io import volume
from m2m.io.bids import files_of, unit_of
from m2m.io.bvalues import B0_S_PER_MM2
from m2m.io.files import write_text
from m2m.io.unit_status import recorded
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject


def main(
    root: Root,
    subject: Subject,
    dwi_path: Annotated[Path, typer.Option("--dwi", help="Diffusion series, 4D")],
    bval: Annotated[Path, typer.Option(help="b-values, FSL format")],
    bvec: Annotated[Path, typer.Option(help="Directions, FSL format")],
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="Section preprocess of the configuration, JSON")] = None,
    threads: Annotated[int, typer.Option(help="Threads of each MRtrix3 command")] = 1,
) -> None:
    """Correct a diffusion series with MRtrix3 or FSL."""
    unit = unit_of(subject, session)
    at = files_of(unit, root)
    correct_unit(
        unit,
        dwi_path,
        bval,
        bvec,
        at("dwi"),
        at("bval"),
        at("bvec"),
        at("preprocess-status"),
        section_of("preprocess", config, options),
        threads,
        section_of("dti", config, None, needed=False).b0_threshold_s_per_mm2,
    )


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
    b0_threshold: float = B0_S_PER_MM2,
) -> None:
    """Correct one unit's series; bad data end in its status, with empty files.

    Parameters
    ----------
    unit : str
    dwi_path, bval, bvec : path
        Series and its gradients, FSL format.
    out_dwi, out_bval, out_bvec : path
        The corrected ones, written.
    status : path
        JSON, written.
    section : Preprocess
    threads : int
        Of each command.
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Raises
    ------
    ValueError
        The backend is ``none``.
    """
    if section.backend == "none":
        raise ValueError("preprocess.backend is none: there is nothing to run")
    correct = section.record.load()
    outputs = [out_dwi, out_bval, out_bvec]
    with (
        recorded("preprocess", unit, status, outputs) as record,
        dwi.findings_about(dwi_path),
    ):
        series = dwi.load(dwi_path, bval, bvec, b0_threshold)
        with tempfile.TemporaryDirectory(prefix="m2m-preprocess-") as name:
            scratch = Path(name)
            given = fsl_files(series, bval, bvec, scratch)
            image, gradients, calls = correct(dwi_path, given, series, section, scratch, threads)
            record |= {"backend": section.backend, "programs": [c.described() for c in calls]}
            corrected = dwi.load(image, gradients[1], gradients[0])
            volume.save(
                out_dwi,
                corrected.volume,
                [dwi_path, bval, bvec],
                Description=f"Diffusion series corrected by the backend {section.backend}",
                SkullStripped=False,
            )
            write_text(out_bval, gradients[1].read_text())
            write_text(out_bvec, gradients[0].read_text())


def fsl_files(series: dwi.Dwi, bval: Path, bvec: Path, scratch: Path) -> tuple[Path, Path]:
    """Gradients as FSL and MRtrix3 take them for FSL's: the files themselves, or written for them.

    Parameters
    ----------
    series : Dwi
    bval, bvec : path
        That it was loaded from.
    scratch : path
        An existing folder.

    Returns
    -------
    bvec, bval : path
        Where the directions are in other axes, or b = 0 is written with a value that programs take for a
        shell, files with FSL's axes and with b = 0.
    """
    unweighted = (series.bvals > B0_S_PER_MM2) & (series.bvals <= series.b0_threshold)
    if series.axes == "FSL's" and not unweighted.any():
        return bvec, bval
    own = scratch / "fsl.bvec", scratch / "fsl.bval"
    np.savetxt(own[0], (series.bvecs @ fsl_axes(series.volume.affine)).T, fmt="%.8g")
    np.savetxt(own[1], np.where(unweighted, 0, series.bvals)[None], fmt="%.8g")
    return own
