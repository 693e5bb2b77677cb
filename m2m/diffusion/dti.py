"""The stage `dti`: brain mask and tensor fit of one diffusion series.

V1 and the tensor are in world axes, RAS+ (`m2m.diffusion.dwi`). A tensor is stored as six elements
in the order of BIDS: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, in mm2/s.

References
----------
Basser et al. (1994), J Magn Reson B 103:247, https://doi.org/10.1006/jmrb.1994.1037;
Chung et al. (2006), NeuroImage 33:531, https://doi.org/10.1016/j.neuroimage.2006.07.001;
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from m2m import options as sections
from m2m.diffusion import dwi
from m2m.diffusion.coherence import BETTER, DEVIATIONS, GIVEN, better_axes, count_aligned_neighbours
from m2m.diffusion.fit_quality import FitQuality, fit_quality, require_plausible
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.diffusion.lowres import crop_kspace
from m2m.diffusion.tensor_fit import TensorMaps, fit_tensor
from m2m.diffusion.unmeasured import mean_of_measured, unmeasured_samples
from m2m.io import masks, volume
from m2m.io.bids import files_of, low_res_factor, low_res_root, unit_of
from m2m.io.errors import DataError
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume
from m2m.options.configured import of_low_res_factor, section_of
from m2m.options.stage_flags import ConfigFile, LowRes, Root, Session, Subject

DESCRIPTIONS = {
    "fa": "Fractional anisotropy, 0 to 1",
    "md": "Mean diffusivity",
    "ad": "Axial diffusivity: the largest eigenvalue",
    "rd": "Radial diffusivity: the mean of the two smaller eigenvalues",
    "v1": "Eigenvector of the largest eigenvalue; its sign is arbitrary",
    "tensor": "Diffusion tensor: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz",
}
# Part of a voxel of low resolution that was not measured, above which its sample is left out.
LOST_PART = 0.1


def find_mask(b0: Volume, weighted: Volume, options: sections.Mask, supplied: Path | None) -> NDArray[np.bool_]:
    """Find the brain by the chosen method.

    Parameters
    ----------
    b0, weighted : Volume
        Mean signal without and with diffusion weighting.
    options : Mask
    supplied : path or None
        Mask on the series' grid, for method ``supplied``.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)

    Raises
    ------
    DataError
        The supplied mask is missing or on another grid; or the mask is empty.
    """
    if options.method == "supplied":
        mask = _supplied_mask(supplied, b0)
    elif options.method == "bet":
        mask = dwi.bet_mask(b0, options.bet_fraction)
    else:
        mask = dwi.brain_mask(b0.data, weighted.data, b0.affine, options.median_radius, options.passes)
    if not mask.any():
        raise DataError(
            f"has no brain: the mask by {options.method} is empty",
            file=supplied or "",
            remedy="look at the series; choose another dti.mask.method or supply a mask",
        )
    return mask


def _supplied_mask(path: Path | None, like: Volume) -> NDArray[np.bool_]:
    """Load a mask; it must be on the series' grid."""
    if path is None:
        raise DataError(
            "has no brain mask, but dti.mask.method is supplied",
            remedy="add a brain mask of the DWI to the dataset, or choose median_otsu",
        )
    mask = volume.load(path)
    if mask.data.ndim != 3 or not volume.same_grid(mask, like):
        raise DataError(
            f"is not on the diffusion series' grid {like.shape}",
            file=path,
            value=mask.data.shape,
            remedy="resample the mask to the series, nearest neighbour",
        )
    return masks.supplied_mask(mask.data, path)


def require_fit_of_axes(maps: TensorMaps, affine: NDArray, bvec: Path) -> float:
    """Check the directions' axes by the coherence of fibres (`m2m.diffusion.coherence`).

    Parameters
    ----------
    maps : TensorMaps
        V1 in world axes.
    affine : ndarray, shape (4, 4)
        Of the series.
    bvec : path
        Named in the finding.

    Returns
    -------
    float
        Aligned neighbours with the directions as given, over the largest count with other axes.

    Raises
    ------
    DataError
        The table's axes have another order or sign, or the affine was mirrored after it was written.
    """
    axes = fsl_axes(affine)
    count = count_aligned_neighbours(maps.v1 @ axes, maps.fa, axes.T @ affine[:3, :3])
    if axis := better_axes(count):
        raise DataError(
            f"directions do not fit the image: fibres between neighbouring voxels align better with {axis}",
            file=bvec,
            value=f"{count[GIVEN]:.0f} aligned neighbours, {count[axis]:.0f} with {axis}; "
            f"limit {BETTER:g} times, {DEVIATIONS:g} standard deviations",
            remedy=f"write the table with {axis}, or correct the image's mirrored affine; "
            "better, convert image and gradients again from DICOM together",
        )
    return count[GIVEN] / max(1.0, *(n for axis, n in count.items() if axis != GIVEN))


def save_maps(maps: TensorMaps, affine: NDArray, paths: dict[str, Path], sources: list[Path], method: str) -> None:
    """Save the maps with sidecars that describe their content and axes.

    Parameters
    ----------
    maps : TensorMaps
    affine : ndarray, shape (4, 4)
    paths : dict of str to path
        By the map's name, the keys of `DESCRIPTIONS`.
    sources : list of path
        Files that the maps were computed from.
    method : str
        Of `fit_tensor`.
    """
    model = {"Description": "Diffusion tensor", "Parameters": {"FitMethod": method.lower()}}
    axes = {"EncodingAxis": 3, "Reference": "xyz", "AntipodalSymmetry": True}
    further: dict[str, dict[str, Any]] = {
        "fa": {"Units": "1"},
        "v1": {"OrientationEncoding": axes | {"Type": "unit3vector", "FillValue": 0.0}},
        "tensor": {
            "OrientationEncoding": axes | {"Type": "tensor", "TensorRank": 2},
            "NonNegativity": "constrained",
        },
    }
    for name, description in DESCRIPTIONS.items():
        units = {} if name in ("fa", "v1") else {"Units": "mm^2/s"}
        sidecar: dict[str, Any] = {"Description": description, "Model": model, **units, **further.get(name, {})}
        volume.save(paths[name], Volume(getattr(maps, name), affine), sources, **sidecar)


def summary(maps: TensorMaps, spacing_mm: NDArray) -> dict[str, Any]:
    """Describe a fit, over the fitted voxels.

    Parameters
    ----------
    maps : TensorMaps
    spacing_mm : ndarray, shape (3,)

    Returns
    -------
    dict
    """
    fa = maps.fa[maps.fitted]
    return {
        "mask_volume_l": round(float(maps.fitted.sum() * np.prod(spacing_mm)) * 1e-6, 4),
        "n_mask": int(maps.fitted.sum()),
        "n_without_signal": maps.n_without_signal,
        "n_partly_measured": maps.n_partly_measured,
        "n_raised": maps.n_raised,
        "n_nonpositive": maps.n_nonpositive,
        "lowest_eigenvalue_mm2_per_s": maps.lowest,
        "fa_mean": round(float(fa.mean()), 5),
        "fa_p95": round(float(np.percentile(fa, 95)), 5),
    }


def limited_numbers(quality: FitQuality) -> dict[str, Any]:
    """Numbers of a fit that have limits, for the status; those that cannot be known are left out."""
    digits = {"md_median_mm2_per_s": 8}
    numbers = {key: value for key, value in asdict(quality).items() if isinstance(value, float)}
    return {key: round(value, digits.get(key, 4)) for key, value in numbers.items()}


def main(
    root: Root,
    subject: Subject,
    dwi_path: Annotated[Path, typer.Option("--dwi", help="Diffusion series, 4D")],
    bval: Annotated[Path, typer.Option(help="b-values, FSL format")],
    bvec: Annotated[Path, typer.Option(help="Directions, FSL format")],
    session: Session = None,
    low_res: LowRes = None,
    supplied_mask: Annotated[
        Path | None, typer.Option(help="Brain mask on the series' grid; mask.method supplied")
    ] = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="Section dti of the configuration, JSON")] = None,
) -> None:
    """Mask a diffusion series and fit the tensor."""
    section, unit = section_of("dti", config, options), unit_of(subject, session)
    if low_res:
        section = of_low_res_factor(section, low_res_factor(low_res))
    own, at = files_of(unit, root), files_of(unit, low_res_root(root, low_res) if low_res else root)
    names = ("fa", "md", "ad", "rd", "v1", "tensor", "mask")
    made = {own("dwi").resolve(): own("preprocess-status"), own("joined-dwi").resolve(): own("joined-status")}
    fit_unit(
        unit,
        dwi_path,
        bval,
        bvec,
        **{name: at(f"dwi-{name}") for name in names},
        b0=at("b0"),
        status=at("dti-status"),
        section=section,
        supplied_mask=supplied_mask,
        preprocess_status=made.get(dwi_path.resolve()),
    )


def fit_unit(
    unit: str,
    dwi_path: Path,
    bval: Path,
    bvec: Path,
    fa: Path,
    md: Path,
    ad: Path,
    rd: Path,
    v1: Path,
    tensor: Path,
    mask: Path,
    b0: Path,
    status: Path,
    section: sections.Dti,
    supplied_mask: Path | None = None,
    preprocess_status: Path | None = None,
) -> None:
    """Fit one unit's series; bad data end in its status, with empty maps.

    Parameters
    ----------
    unit : str
    dwi_path, bval, bvec : path
        Series and its gradients, FSL format.
    fa, md, ad, rd, v1, tensor, mask, b0, status : path
        Maps, brain mask, mean b = 0 image and JSON, written.
    section : Dti
    supplied_mask : path, optional
        For method ``supplied``.
    preprocess_status : path, optional
        Of the stage `preprocess` or `join-series`, if it made the series.
    """
    maps_paths = {"fa": fa, "md": md, "ad": ad, "rd": rd, "v1": v1, "tensor": tensor}
    outputs = [*maps_paths.values(), mask, b0]
    inputs = [dwi_path, bval, bvec, *filter(None, [supplied_mask, preprocess_status])]
    with recorded("dti", unit, status, outputs, inputs) as record, dwi.findings_about(dwi_path):
        require_ok(*([preprocess_status] if preprocess_status else []))
        threshold, max_b = section.b0_threshold_s_per_mm2, section.max_b_s_per_mm2
        series = dwi.load(dwi_path, bval, bvec, threshold)
        lost, affine = unmeasured_samples(series.volume.data), series.volume.affine
        mean_b0 = dwi.mean_b0(series, lost)
        chosen = dwi.volumes_to_fit(series.bvals, series.bvecs, threshold, max_b, section.b_tolerance_s_per_mm2)
        weighted = series.bvals[chosen] > threshold
        data, lost = series.volume.data[..., chosen], lost[..., chosen]
        bvals = np.where(weighted, series.bvals[chosen], 0.0)
        mean_weighted = Volume(mean_of_measured(data[..., weighted], lost[..., weighted]), affine)
        brain = find_mask(mean_b0, mean_weighted, section.mask, supplied_mask)
        if section.low_res_factor > 1:
            images = (Volume(data, affine), mean_b0, Volume(brain, affine), Volume(lost, affine))
            cropped = [crop_kspace(image, section.low_res_factor) for image in images]
            data, mean_b0 = np.maximum(cropped[0].data, 0), cropped[1]
            brain, lost, affine = cropped[2].data >= 0.5, cropped[3].data > LOST_PART, mean_b0.affine
        bvecs = series.bvecs[chosen]
        maps = fit_tensor(data, bvals, bvecs, brain, section.fit, lost)
        quality = fit_quality(data, bvals, bvecs, maps, lost)
        record |= {
            "gradient_axes": series.axes,
            "n_volumes": len(series.bvals),
            "n_b0": int((~weighted).sum()),
            "n_directions": int(weighted.sum()),
            "b_max_s_per_mm2": float(bvals.max()),
        } | summary(maps, mean_b0.spacing_mm)
        record |= limited_numbers(quality)
        require_plausible(quality, section.limits, dwi_path)
        record["fit_of_axes"] = round(require_fit_of_axes(maps, affine, bvec), 3)
        sources = [dwi_path, bval, bvec]
        save_maps(maps, affine, maps_paths, sources, section.fit)
        volume.save(mask, Volume(maps.fitted, affine), sources, np.uint8, Type="Brain")
        volume.save(b0, mean_b0, sources, Description="Mean of the b = 0 volumes")
