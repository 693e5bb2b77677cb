"""The stage `preprocess`: corrections of a diffusion series by a chosen chain, before the fit.

`m2m.options.chains` has a record of each chain; all correct one series with one phase-encoding
direction.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from m2m import dwi, stage, volume
from m2m import options as sections


def main(
    unit: Annotated[str, typer.Option(help="Participant and session, e.g. sub-01_ses-1")],
    dwi_path: Annotated[Path, typer.Option("--dwi", help="Diffusion series, 4D")],
    bval: Annotated[Path, typer.Option(help="b-values, FSL format")],
    bvec: Annotated[Path, typer.Option(help="Directions, FSL format")],
    out_dwi: Annotated[Path, typer.Option(help="Out: corrected series")],
    out_bval: Annotated[Path, typer.Option(help="Out: b-values")],
    out_bvec: Annotated[Path, typer.Option(help="Out: directions, rotated with the head")],
    status: Annotated[Path, typer.Option(help="Out: status")],
    options: Annotated[str, typer.Option(help="Section preprocess of the configuration, JSON")],
    threads: Annotated[int, typer.Option(help="Threads of each MRtrix3 command")] = 1,
) -> None:
    """Correct a diffusion series with MRtrix3 or FSL."""
    section = stage.parse_options(sections.Preprocess, options)
    if section.chain == "none":
        raise ValueError("preprocess.chain is none: there is nothing to run")
    correct = section.record.load()
    outputs = [out_dwi, out_bval, out_bvec]
    with (
        stage.recorded("preprocess", unit, status, outputs) as record,
        dwi.findings_about(dwi_path),
    ):
        series = dwi.load(dwi_path, bval, bvec)
        with tempfile.TemporaryDirectory(prefix="m2m-preprocess-") as name:
            scratch = Path(name)
            image, gradients, calls = correct(
                dwi_path, (bvec, bval), series, section, scratch, threads
            )
            record |= {"chain": section.chain, "programs": [c.described() for c in calls]}
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
