"""The stage `preprocess`: corrections of a diffusion series by a chosen chain, before the fit.

`m2m.options.chains` has a record of each chain; all correct one series with one phase-encoding
direction.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from m2m import options as sections
from m2m.diffusion import dwi
from m2m.io import volume
from m2m.io.bids import files_of, unit_of
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
    correct = section.record.load()
    outputs = [out_dwi, out_bval, out_bvec]
    with (
        recorded("preprocess", unit, status, outputs) as record,
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
            write_text(out_bval, gradients[1].read_text())
            write_text(out_bvec, gradients[0].read_text())
