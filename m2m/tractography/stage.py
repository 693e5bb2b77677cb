"""The stage `tractography`: whole-brain streamlines of a diffusion series, or of tensors alone."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from dipy.tracking.streamline import length
from numpy.typing import NDArray

from m2m import density, dwi, stage, tensors, volume
from m2m import options as sections
from m2m.stage import DataError
from m2m.tractography import picture
from m2m.tractography.tracks import Anatomy, Field, Tractogram
from m2m.volume import Volume


def track(
    field: Field,
    options: sections.Tractography,
    threads: int = 1,
    anatomy: Anatomy | None = None,
) -> Tractogram:
    """Track by the chosen backend; equal runs give equal streamlines.

    Parameters
    ----------
    field : Field
    options : Tractography
    threads : int
    anatomy : Anatomy, optional
        For ACT, where the backend has it.

    Raises
    ------
    DataError
        See the backend's own function, which `m2m.options.trackers` names.
    """
    return options.record.load()(field, options, threads, anatomy or Anatomy())


def load_field(
    tensor: Path,
    mask: Path,
    scan: tuple[Path, Path, Path] | None = None,
    b0_threshold: float = dwi.B0_S_PER_MM2,
    max_b: float = np.inf,
) -> Field:
    """Load tensors, their mask and, if there is one, the series (image, bval, bvec).

    Parameters
    ----------
    b0_threshold, max_b : float
        Of the tensor fit, s/mm2, so that the same volumes are taken.

    Raises
    ------
    DataError
        A file cannot be used, or the grids differ.
    """
    six, brain = volume.load(tensor), volume.load(mask)
    if six.data.shape[3:] != (6,):
        raise DataError(
            "is not an image of six tensor elements", file=tensor, value=six.data.shape,
            remedy="fit the tensors again",
        )  # fmt: skip
    _require_grid(brain, six, mask)
    series = fitted = None
    if scan is not None:
        series = dwi.load(*scan)
        _require_grid(series.volume, six, scan[0])
        fitted = dwi.volumes_to_fit(series.bvals, series.bvecs, b0_threshold, max_b)
        bvals = np.where(series.bvals > b0_threshold, series.bvals, 0.0)
        series = dwi.Dwi(series.volume, bvals, series.bvecs)
    return Field(six.data, brain.data > 0, six.affine, series, fitted)


def _require_grid(image: Volume, like: Volume, path: Path) -> None:
    """Refuse an image on another grid than the tensors'."""
    if not volume.same_grid(image, like):
        raise DataError(
            f"is not on the tensors' grid {like.shape}", file=path, value=image.shape,
            remedy="fit the tensors again, to this series",
        )  # fmt: skip


def summary(found: Tractogram, backend: str) -> dict[str, Any]:
    """What the status says about a tractogram."""
    lengths = np.atleast_1d(length(found.streamlines))
    sift2 = {} if found.sift2_mu is None else {"sift2_mu": found.sift2_mu}
    return {
        "backend": backend,
        "model": found.model,
        "algorithm": found.algorithm,
        "act": found.act,
        "n_seeds": found.n_seeds,
        "seeded_mm3": round(found.seeded_mm3, 3),
        "n_streamlines": len(found.streamlines),
        "n_dropped_short": found.n_dropped_short,
        "n_dropped_long": found.n_dropped_long,
        "mean_length_mm": round(float(lengths.mean()), 3),
        "median_length_mm": round(float(np.median(lengths)), 3),
        **sift2,
        "programs": [call.described() for call in found.calls],
    }


def save_maps(
    field: Field, found: Tractogram, paths: dict[str, Path | None], sources: list[Path]
) -> None:
    """Save the maps that have a path: FA, MD, V1 of the tensors, density of the streamlines."""
    if not any(paths.values()):
        return
    measures = tensors.measures(np.where(field.mask[..., None], field.tensor, 0))
    axes = {"EncodingAxis": 3, "Reference": "xyz", "AntipodalSymmetry": True, "FillValue": 0.0}
    vector = {"OrientationEncoding": axes | {"Type": "unit3vector"}}
    maps: dict[str, tuple[NDArray, dict[str, Any]]] = {
        "fa": (measures.fa, {"Description": "Fractional anisotropy, 0 to 1", "Units": "1"}),
        "md": (measures.md, {"Description": "Mean diffusivity", "Units": "mm^2/s"}),
        "v1": (measures.v1, {"Description": "First eigenvector, world axes"} | vector),
    }
    if paths["tdi"]:
        count = density.count_map(found.streamlines, field.affine, field.mask.shape)
        per_seed = density.normalised(count, found.n_seeds, found.seeded_mm3, field.affine)
        described = "Streamlines per voxel, for each one seeded per volume of a voxel"
        maps["tdi"] = (per_seed, {"Description": described, "Units": "1"})
    for name, (data, sidecar) in maps.items():
        if paths[name]:
            volume.save(paths[name], Volume(data, field.affine), sources, **sidecar)


def _save(found: Tractogram, tractogram: Path, picture_path: Path, weights: Path | None) -> None:
    """Save streamlines, their picture and, if there are any, their weights."""
    density.save_tractogram(tractogram, found.streamlines)
    with stage.whole(picture_path) as temporary:
        picture.draw(found.streamlines).save(temporary)
    if weights:
        numbers = [] if found.weights is None else found.weights
        stage.write_text(weights, "".join(f"{number:.9g}\n" for number in numbers))


def main(
    unit: Annotated[str, typer.Option(help="Participant and session, e.g. sub-01_ses-1")],
    tensor: Annotated[Path, typer.Option(help="Six elements, world axes")],
    mask: Annotated[Path, typer.Option(help="Brain, on the tensors' grid")],
    tractogram: Annotated[Path, typer.Option(help="Out: streamlines, .tck, world mm")],
    picture_path: Annotated[Path, typer.Option("--picture", help="Out: quality picture, PNG")],
    status: Annotated[Path, typer.Option(help="Out: status and quality numbers")],
    options: Annotated[str, typer.Option(help="Section tractography, JSON")],
    dti_options: Annotated[str, typer.Option(help="Section dti, JSON")] = "{}",
    dwi_path: Annotated[Path | None, typer.Option("--dwi", help="Diffusion series, 4D")] = None,
    bval: Annotated[Path | None, typer.Option(help="b-values, FSL format")] = None,
    bvec: Annotated[Path | None, typer.Option(help="Directions, FSL format")] = None,
    require: Annotated[list[Path] | None, typer.Option(help="Statuses of earlier stages")] = None,
    five_tissue: Annotated[Path | None, typer.Option(help="5TT image, for ACT")] = None,
    t1w: Annotated[Path | None, typer.Option(help="T1, for 5ttgen-fsl")] = None,
    weights: Annotated[Path | None, typer.Option(help="Out: SIFT2's weights, text")] = None,
    fa: Annotated[Path | None, typer.Option(help="Out: FA of the tensors")] = None,
    md: Annotated[Path | None, typer.Option(help="Out: MD of the tensors")] = None,
    v1: Annotated[Path | None, typer.Option(help="Out: first eigenvector")] = None,
    tdi: Annotated[Path | None, typer.Option(help="Out: density on the tensors' grid")] = None,
    threads: Annotated[int, typer.Option(help="Threads")] = 1,
) -> None:
    """Draw streamlines through the whole brain."""
    section = stage.parse_options(sections.Tractography, options)
    fit = stage.parse_options(sections.Dti, dti_options)
    scan = (dwi_path, bval, bvec) if dwi_path and bval and bvec else None
    if scan is None and (dwi_path or bval or bvec):
        raise typer.BadParameter("--dwi, --bval and --bvec belong together")
    maps = {"fa": fa, "md": md, "v1": v1, "tdi": tdi}
    outputs = [p for p in (tractogram, picture_path, weights, *maps.values()) if p]
    with stage.recorded("tractography", unit, status, outputs) as record:
        stage.require_ok(*(require or []))
        with dwi.findings_about(dwi_path or tensor):
            threshold, max_b = fit.b0_threshold_s_per_mm2, fit.max_b_s_per_mm2
            field = load_field(tensor, mask, scan, threshold, max_b)
            found = track(field, section, threads, Anatomy(five_tissue, t1w))
        _save(found, tractogram, picture_path, weights)
        save_maps(field, found, maps, [tensor, mask])
        record |= summary(found, section.backend)
