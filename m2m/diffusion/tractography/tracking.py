"""The stage `tractography`: whole-brain streamlines of a diffusion series, or of tensors only."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from dipy.tracking.streamline import length
from numpy.typing import NDArray

from m2m import GENERATED_BY
from m2m import options as sections
from m2m.diffusion import density, dwi, tensors
from m2m.diffusion.tractography import tractogram_figure
from m2m.diffusion.tractography.tracks import Anatomy, Field, Tractogram
from m2m.diffusion.unmeasured import completed, unmeasured_samples
from m2m.io import bids, volume
from m2m.io.bids import files_of, unit_of
from m2m.io.bvalues import B0_S_PER_MM2, B_TOLERANCE_S_PER_MM2
from m2m.io.dataset_links import uri
from m2m.io.errors import DataError
from m2m.io.files import whole, write_json, write_text
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, MapsOf, Root, Session, Subject

Finder = Callable[[str], Path]


def track(
    field: Field,
    options: sections.Tractography,
    threads: int = 1,
    anatomy: Anatomy | None = None,
) -> Tractogram:
    """Track by the chosen backend; runs with the same inputs and options give the same streamlines.

    Parameters
    ----------
    field : Field
    options : Tractography
    threads : int
    anatomy : Anatomy, optional
        For ACT, if the backend supports it.

    Returns
    -------
    Tractogram

    Raises
    ------
    DataError
        See the backend's function, which is recorded in `m2m.options.trackers`.
    """
    return options.record.load()(field, options, threads, anatomy or Anatomy())


def load_field(
    tensor: Path,
    mask: Path,
    scan: tuple[Path, Path, Path] | None = None,
    b0_threshold: float = B0_S_PER_MM2,
    max_b: float = np.inf,
    tolerance: float = B_TOLERANCE_S_PER_MM2,
) -> Field:
    """Load tensors, their mask and, if there is one, the series.

    Parameters
    ----------
    tensor, mask : path
    scan : (path, path, path), optional
        Image, bval and bvec of the series.
    b0_threshold, max_b, tolerance : float
        Of the tensor fit, s/mm2, so that the same volumes are used.

    Returns
    -------
    Field

    Raises
    ------
    DataError
        A file cannot be used, or the grids differ.
    """
    six, brain = volume.load(tensor), volume.load(mask)
    if six.data.shape[3:] != (6,):
        raise DataError(
            "is not an image of six tensor elements", file=tensor, value=six.data.shape, remedy="fit the tensors again"
        )
    _require_grid(brain, six, mask)
    series = fitted = None
    if scan is not None:
        series = dwi.load(*scan, b0_threshold)
        _require_grid(series.volume, six, scan[0])
        fitted = dwi.volumes_to_fit(series.bvals, series.bvecs, b0_threshold, max_b, tolerance)
        bvals = np.where(series.bvals > b0_threshold, series.bvals, 0.0)
        lost = unmeasured_samples(series.volume.data)
        signal = completed(series.volume.data, bvals, series.bvecs, six.data, lost)
        series = dwi.Dwi(Volume(signal, six.affine), bvals, series.bvecs, b0_threshold)
    return Field(six.data, in_mask(brain.data), six.affine, series, fitted)


def _require_grid(image: Volume, like: Volume, path: Path) -> None:
    """Raise DataError for an image that is not on the tensors' grid."""
    if not volume.same_grid(image, like):
        raise DataError(
            f"is not on the tensors' grid {like.shape}",
            file=path,
            value=image.shape,
            remedy="fit the tensors to this series again",
        )


def summary(found: Tractogram, backend: str) -> dict[str, Any]:
    """Entries of the status about a tractogram."""
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


def save_maps(field: Field, found: Tractogram, paths: dict[str, Path | None], sources: list[Path]) -> None:
    """Save the maps that have a path: FA, MD, V1 of the tensors, density of the streamlines.

    Parameters
    ----------
    field : Field
    found : Tractogram
    paths : dict of str to path or None
        By name: fa, md, v1, tdi.
    sources : list of path
        Files that the maps were computed from.
    """
    if not any(paths.values()):
        return
    measures = tensors.measures(np.where(field.mask[..., None], field.tensor, 0))
    axes = {"EncodingAxis": 3, "Reference": "xyz", "AntipodalSymmetry": True, "FillValue": 0.0}
    vector = {"OrientationEncoding": axes | {"Type": "unit3vector"}}
    model = {key: value for key, value in volume.fitted_as(sources[0]).items() if key == "Model"}
    maps: dict[str, tuple[NDArray, dict[str, Any]]] = {
        "fa": (measures.fa, MODALITIES["fa"].sidecar() | model),
        "md": (measures.md, MODALITIES["md"].sidecar() | model),
        "v1": (measures.v1, {"Description": "First eigenvector, world axes"} | vector | model),
    }
    if paths["tdi"]:
        count = density.count_map(found.streamlines, field.affine, field.mask.shape)
        per_seed = density.normalised(count, found.n_seeds, found.seeded_mm3, field.affine)
        tracking = {"model": found.model, "algorithm": found.algorithm, "act": found.act}
        seeds = {"n_seeds": found.n_seeds, "seeded_mm3": round(found.seeded_mm3, 3)}
        maps["tdi"] = (per_seed, MODALITIES["tdi"].sidecar(**tracking, **seeds))
    for name, (data, sidecar) in maps.items():
        if path := paths[name]:
            volume.save(path, Volume(data, field.affine), sources, **sidecar)


def described(found: Tractogram, options: sections.Tractography, sources: list[str]) -> dict[str, Any]:
    """Sidecar of a file of streamlines.

    Parameters
    ----------
    found : Tractogram
    options : Tractography
    sources : list of str
        URIs of the files that were tracked: tensors first.

    Returns
    -------
    dict
        The keys that BIDS extension proposal 46 requires; of what each but the first holds, its draft does not speak.
    """
    ends = {"FOD": options.mrtrix3.fod_cutoff} if found.model == "fod" else {"FA": options.stop_fa}
    seeding = {"Type": "RandomPerElement", "Source": sources[0], "SeedsPerElement": options.seeds_per_voxel}
    return {
        "Description": "Whole-brain streamlines, one from each seed",
        "Name": f"{options.backend} {found.algorithm}",
        "Units": "mm",
        "Sources": sources,
        "SpatialReference": sources[0],
        "GeneratedBy": GENERATED_BY,
        "StreamlineSeeding": {
            "Sources": [seeding],
            "AcceptanceCriteria": [{"Metric": "FA", "Source": sources[0], "Threshold": options.seed_fa}],
        },
        "StreamlinePropagation": {
            "Model": found.model,
            "Algorithm": found.algorithm,
            "StepMm": options.step_mm,
            "MaxAngleDeg": options.max_angle_deg,
            "RandomSeed": options.seed,
        },
        "StreamlineTermination": {"MinimumAmplitude": ends, "ACT": found.act},
        "StreamlineAcceptanceCriteria": {"LengthMm": options.length_mm},
        "StreamlineReconstructionDensity": {"Seeds": found.n_seeds, "SeededMm3": round(found.seeded_mm3, 3)},
    }


def _save(found: Tractogram, like: Field, tractogram: Path, figure_path: Path, weights: Path | None) -> None:
    """Save streamlines, their QC figure and, where asked for, their weights."""
    density.save_tractogram(tractogram, found.streamlines, like.affine, like.mask.shape)
    with whole(figure_path) as temporary:
        tractogram_figure.draw(found.streamlines).save(temporary)
    if weights:
        numbers: Iterable[float] = () if found.weights is None else found.weights
        write_text(weights, "".join(f"{number:.9g}\n" for number in numbers))


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    maps: MapsOf = None,
    field: Annotated[bool, typer.Option("--field", help="Track the tensors of a field")] = False,
    dwi_path: Annotated[Path | None, typer.Option("--dwi", help="Diffusion series, 4D")] = None,
    bval: Annotated[Path | None, typer.Option(help="b-values, FSL format")] = None,
    bvec: Annotated[Path | None, typer.Option(help="Directions, FSL format")] = None,
    five_tissue: Annotated[Path | None, typer.Option(help="5TT image, for ACT")] = None,
    t1w: Annotated[Path | None, typer.Option(help="T1, for 5ttgen-fsl")] = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="Section tractography, JSON")] = None,
    dti_options: Annotated[str | None, typer.Option(help="Section dti, JSON")] = None,
    threads: Annotated[int, typer.Option(help="Threads")] = 1,
) -> None:
    """Track streamlines through the whole brain: of a series, synthetic tensors, or a field."""
    scan = (dwi_path, bval, bvec) if dwi_path and bval and bvec else None
    if scan is None and (dwi_path or bval or bvec):
        raise typer.BadParameter("--dwi, --bval and --bvec belong together")
    if bool(scan) == bool(maps or field):
        raise typer.BadParameter("give --dwi, or --maps, --field or both for other tensors")
    unit, section = unit_of(subject, session), section_of("tractography", config, options)
    own, at = files_of(unit, root), files_of(unit, maps or root)
    if field:
        files = files_of_field(at, own("brain" if maps else "target-mask"))
    elif maps:
        files = files_of_synthetic(at, own("brain"))
    else:
        files = files_of_series(at, section)
    files["tractogram"] = files["tractogram"].with_suffix(f".{section.format}")
    # Of a series, the volumes of the tensor fit are used again.
    fit = section_of("dti", config, dti_options, needed=False) if scan else sections.Dti()
    anatomy = Anatomy(five_tissue, t1w)
    track_unit(unit, section=section, fit=fit, scan=scan, anatomy=anatomy, threads=threads, **files)


def files_of_series(at: Finder, section: sections.Tractography) -> dict[str, Any]:
    """Arguments of `track_unit` for a measured series."""
    return {
        "tensor": at("dwi-tensor"),
        "mask": at("dwi-mask"),
        "require": [at("dti-status")],
        "tractogram": at("tractogram"),
        "figure_path": at("tractography-figure"),
        "status": at("tractography-status"),
    } | {name: at(kind) for name, kind in section.record.outputs(section).items()}


def files_of_synthetic(at: Finder, mask: Path) -> dict[str, Any]:
    """Arguments of `track_unit` for synthetic tensors, their maps included."""
    translation_status = str(at("synth-status")).format(measure=bids.measure("synth-tensor"))
    return {
        "tensor": at("synth-tensor"),
        "mask": mask,
        "require": [Path(translation_status)],
        "tractogram": at("synth-tractogram"),
        "figure_path": at("tractography-figure"),
        "status": at("synth-tractography-status"),
    } | {name: at(f"synth-{name}") for name in ("fa", "md", "v1", "tdi")}


def files_of_field(at: Finder, mask: Path) -> dict[str, Any]:
    """Arguments of `track_unit` for the tensors of a field."""
    return {
        "tensor": at("field-tensor"),
        "mask": mask,
        "require": [at("field-status")],
        "tractogram": at("field-tractogram"),
        "figure_path": at("field-tractogram-figure"),
        "status": at("field-tractography-status"),
    }


def track_unit(
    unit: str,
    tensor: Path,
    mask: Path,
    tractogram: Path,
    figure_path: Path,
    status: Path,
    section: sections.Tractography,
    fit: sections.Dti | None = None,
    scan: tuple[Path, Path, Path] | None = None,
    require: Sequence[Path] = (),
    anatomy: Anatomy | None = None,
    weights: Path | None = None,
    fa: Path | None = None,
    md: Path | None = None,
    v1: Path | None = None,
    tdi: Path | None = None,
    threads: int = 1,
) -> None:
    """Track one unit's tensors; bad data end in its status, with empty files.

    Parameters
    ----------
    unit : str
    tensor, mask : path
    tractogram, figure_path, status : path
        Streamlines, QC figure and JSON, written.
    section : Tractography
    fit : Dti, optional
        Section of the tensor fit.
    scan : (path, path, path), optional
        Image, bval and bvec of the series.
    require : sequence of path
        Statuses of earlier stages, which must be ok.
    anatomy : Anatomy, optional
        For ACT.
    weights, fa, md, v1, tdi : path, optional
        Weights of the streamlines, and maps, written.
    threads : int
    """
    fit = fit or sections.Dti()
    maps = {"fa": fa, "md": md, "v1": v1, "tdi": tdi}
    outputs = [p for p in (tractogram, figure_path, weights, *maps.values()) if p]
    images = (anatomy.five_tissue, anatomy.t1w) if anatomy else ()
    inputs = [tensor, mask, *require, *(scan or ()), *filter(None, images)]
    with recorded("tractography", unit, status, outputs, inputs) as record:
        require_ok(*require)
        # One of an earlier call with the other format would be read in the place of this one.
        for suffix in density.FORMATS:
            tractogram.with_suffix(suffix).unlink(missing_ok=True)
        with dwi.findings_about(scan[0] if scan else tensor):
            limits = fit.b0_threshold_s_per_mm2, fit.max_b_s_per_mm2, fit.b_tolerance_s_per_mm2
            field = load_field(tensor, mask, scan, *limits)
            found = track(field, section, threads, anatomy)
        _save(found, field, tractogram, figure_path, weights)
        sources = [uri(path, tractogram) for path in (tensor, mask, *(scan or ()))]
        write_json(tractogram.with_suffix(".json"), described(found, section, sources))
        save_maps(field, found, maps, [tensor, mask])
        record |= summary(found, section.backend)
