"""The stage `join-series`: several diffusion series of one session, which differ by shell only, as one.

Scanners scale each series by itself, so all are scaled to the first by the brightness of their b = 0 images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m.diffusion import dwi
from m2m.diffusion.dwi import Dwi
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.io import volume
from m2m.io.bids import files_of, unit_of
from m2m.io.dataset_links import uri
from m2m.io.errors import DataError
from m2m.io.files import write_text
from m2m.io.unit_status import recorded
from m2m.io.volume import Volume
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject

# A voxel with more than this part of the brightest b = 0 signal is tissue.
TISSUE_PART = 0.2


def join(series: Sequence[Dwi], names: Sequence[str | Path]) -> tuple[Dwi, list[float]]:
    """Join series, each scaled to the first by the median ratio of their b = 0 images in tissue.

    Parameters
    ----------
    series : sequence of Dwi
        On one grid, each with b = 0.
    names : sequence of path
        Their files, named in findings.

    Returns
    -------
    joined : Dwi
    scales : list of float
        Factor of each series' signal.

    Raises
    ------
    DataError
        They are on different grids, one has no b = 0, or they show no tissue in common.
    """
    first = dwi.mean_b0(series[0])
    scales = [1.0]
    for one, name in zip(series[1:], names[1:], strict=True):
        with dwi.findings_about(name):
            b0 = dwi.mean_b0(one)
            if not volume.same_grid(b0, first):
                remedy = "resample it, or remove it from the dataset"
                raise DataError("is on another grid than the series it is joined with", value=b0.shape, remedy=remedy)
            bright = [image.data > TISSUE_PART * np.percentile(image.data, 99) for image in (first, b0)]
            tissue = bright[0] & bright[1]
            if not tissue.any():
                raise DataError("shows no tissue where the series it is joined with does", remedy="look at both")
            scales.append(float(np.median(first.data[tissue] / b0.data[tissue])))
    data = [one.volume.data * np.float32(scale) for one, scale in zip(series, scales, strict=True)]
    joined = Dwi(
        Volume(np.concatenate(data, axis=-1), series[0].volume.affine),
        np.concatenate([one.bvals for one in series]),
        np.vstack([one.bvecs for one in series]),
        series[0].b0_threshold,
    )
    return joined, scales


def main(
    root: Root,
    subject: Subject,
    dwi_path: Annotated[list[Path], typer.Option("--dwi", help="Diffusion series, 4D; two or more")],
    bval: Annotated[list[Path], typer.Option(help="b-values of each series")],
    bvec: Annotated[list[Path], typer.Option(help="Directions of each series")],
    session: Session = None,
    config: ConfigFile = None,
    dti_options: Annotated[str | None, typer.Option(help="Section dti of the configuration, JSON")] = None,
) -> None:
    """Join diffusion series of one session that differ by shell only."""
    unit = unit_of(subject, session)
    at = files_of(unit, root)
    threshold = section_of("dti", config, dti_options, needed=False).b0_threshold_s_per_mm2
    outputs = [at("joined-dwi"), at("joined-bval"), at("joined-bvec")]
    with recorded("join-series", unit, at("joined-status"), outputs) as record:
        series = []
        for files in zip(dwi_path, bval, bvec, strict=True):
            with dwi.findings_about(files[0]):
                series.append(dwi.load(*files, threshold))
        joined, scales = join(series, dwi_path)
        axes = fsl_axes(joined.volume.affine)
        sources = [*dwi_path, *bval, *bvec]
        description = "Diffusion series of one session, joined; each scaled to the first by b = 0"
        volume.save(outputs[0], joined.volume, sources, Description=description, SkullStripped=False)
        write_text(outputs[1], " ".join(f"{b:g}" for b in joined.bvals) + "\n")
        rows = (joined.bvecs @ axes).T
        write_text(outputs[2], "\n".join(" ".join(f"{x:.6f}" for x in row) for row in rows) + "\n")
        record |= {
            "series": [uri(path, at("joined-status")) for path in dwi_path],
            "gradient_axes": [one.axes for one in series],
            "n_volumes": [len(one.bvals) for one in series],
            "scales": [round(scale, 4) for scale in scales],
        }
