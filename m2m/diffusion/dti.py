"""The stage `dti`: brain mask and tensor fit of one diffusion series.

V1 and the tensor are in world axes, RAS+ (`m2m.diffusion.dwi`). Six elements stand for a tensor,
in the order of BIDS: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, in mm2/s.

References
----------
Basser et al. (1994), J Magn Reson B 103:247, https://doi.org/10.1006/jmrb.1994.1037;
Chung et al. (2006), NeuroImage 33:531, https://doi.org/10.1016/j.neuroimage.2006.07.001;
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from numpy.typing import NDArray

from m2m import options as sections
from m2m.diffusion import dwi
from m2m.diffusion.coherence import GIVEN, joined, reversed_axis
from m2m.diffusion.lowres import crop_kspace
from m2m.io import volume
from m2m.io.bids import files_of, low_ratio, low_root, unit_of
from m2m.io.errors import DataError
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume
from m2m.options.configured import of_low_ratio, section_of
from m2m.options.stage_flags import ConfigFile, Low, Root, Session, Subject

DESCRIPTIONS = {
    "fa": "Fractional anisotropy, 0 to 1",
    "md": "Mean diffusivity",
    "ad": "Axial diffusivity: the largest eigenvalue",
    "rd": "Radial diffusivity: the mean of the two smaller eigenvalues",
    "v1": "Eigenvector of the largest eigenvalue; its sign means nothing",
    "tensor": "Diffusion tensor: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz",
}


# A signal below this part of b = 0 is under any scanner's noise: no tissue attenuates so far.
LEAST_SIGNAL = 1e-3


@dataclass(frozen=True)
class TensorMaps:
    """What a tensor fit gives; 0 where nothing was fitted.

    Attributes
    ----------
    fa : ndarray, shape (X, Y, Z)
        0 to 1.
    md, ad, rd : ndarray, shape (X, Y, Z)
        mm2/s.
    v1 : ndarray, shape (X, Y, Z, 3)
        Unit vectors, in the axes of the b-vectors.
    tensor : ndarray, shape (X, Y, Z, 6)
        Dxx, Dxy, Dxz, Dyy, Dyz, Dzz in the axes of the b-vectors, mm2/s.
    n_without_signal : int
        Voxels of the mask that were not fitted: nothing measured without, or with, weighting.
    n_raised : int
        Fitted voxels with a signal under `LEAST_SIGNAL` of b = 0, which was raised to it.
    n_nonpositive : int
        Fitted voxels with an eigenvalue that was not positive: raised to `lowest`.
    lowest : float
        Least eigenvalue of a fitted tensor, mm2/s: practically 0, and positive.
    """

    fa: NDArray
    md: NDArray
    ad: NDArray
    rd: NDArray
    v1: NDArray
    tensor: NDArray
    n_without_signal: int
    n_raised: int
    n_nonpositive: int
    lowest: float


def fit_tensor(
    data: NDArray, bvals: NDArray, bvecs: NDArray, mask: NDArray[np.bool_], method: str = "WLS"
) -> TensorMaps:
    """Fit a tensor in each voxel of a mask, with DIPY.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
        Signal.
    bvals : ndarray, shape (N,)
        s/mm2.
    bvecs : ndarray, shape (N, 3)
        Unit vectors; zero where b = 0.
    mask : ndarray of bool, shape (X, Y, Z)
    method : str
        OLS (of the log-signal); WLS, weighted by OLS' squared prediction; NLLS (of the signal);
        RESTORE, NLLS without outliers, the noise level of each voxel taken from its residuals.

    Raises
    ------
    DataError
        No voxel of the mask has a signal.

    References
    ----------
    Chang et al. (2005), MRM 53:1088, https://doi.org/10.1002/mrm.20426 (RESTORE);
    Chang et al. (2012), MRM 68:1654, https://doi.org/10.1002/mrm.24173 (its noise level)
    """
    weighted = (bvals > 0) & (np.linalg.norm(bvecs, axis=1) > 0)
    b0 = data[..., ~weighted].mean(axis=-1)
    fitted = mask & (b0 > 0) & (data[..., weighted].mean(axis=-1) > 0)
    if not fitted.any():
        raise DataError(
            "has no signal in any voxel of the brain mask",
            value=f"{int(mask.sum())} voxels in the mask",
            remedy="check the mask and the series",
        )
    gtab = gradient_table(np.where(weighted, bvals, 0), bvecs=bvecs, b0_threshold=0)
    least = LEAST_SIGNAL * float(np.median(b0[fitted]))
    model = TensorModel(gtab, fit_method=method, min_signal=least)
    signal = data[fitted].astype(np.float64)
    fit = model.fit(signal)
    # DIPY raises eigenvalues to this, a millionth of the largest measurable attenuation.
    lowest = 1e-6 / -float(model.design_matrix.min())

    image = functools.partial(_image, fitted)
    return TensorMaps(
        fa=image(fit.fa),
        md=image(fit.md),
        ad=image(fit.ad),
        rd=image(fit.rd),
        v1=image(fit.evecs[..., 0]),
        tensor=image(fit.quadratic_form[..., (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)]),
        n_without_signal=int((mask & ~fitted).sum()),
        n_raised=int((signal < least).any(axis=-1).sum()),
        n_nonpositive=int((fit.evals[..., 2] <= lowest * (1 + 1e-9)).sum()),
        lowest=lowest,
    )


def _image(fitted: NDArray[np.bool_], values: NDArray) -> NDArray[np.float32]:
    """Values of the fitted voxels in their places, 0 elsewhere."""
    out = np.zeros((*fitted.shape, *values.shape[1:]), dtype=np.float32)
    out[fitted] = values
    return out


def find_mask(
    b0: Volume, weighted: Volume, options: sections.Mask, supplied: Path | None
) -> NDArray[np.bool_]:
    """Find the brain by the chosen method.

    Parameters
    ----------
    b0, weighted : Volume
        Mean signal without and with diffusion weighting.
    options : Mask
    supplied : path or None
        Mask on the series' grid, for method ``supplied``.

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
        mask = dwi.brain_mask(
            b0.data, weighted.data, b0.affine, options.median_radius, options.passes
        )
    if not mask.any():
        raise DataError(
            f"has no brain that {options.method} finds",
            file=supplied or "",
            remedy="look at the series; choose another dti.mask.method or supply a mask",
        )
    return mask


def _supplied_mask(path: Path | None, like: Volume) -> NDArray[np.bool_]:
    """Load a mask that must lie on the series' grid."""
    if path is None:
        raise DataError(
            "has no mask beside it, and dti.mask.method is supplied",
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
    return mask.data > 0


def require_fit_of_axes(maps: TensorMaps, affine: NDArray, bvec: Path) -> float:
    """Raise where fibres follow one another better with an axis of the directions reversed.

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
        Neighbours joined as given, over the most that reversing an axis joins.

    Raises
    ------
    DataError
        The table has an axis with the wrong sign, or the affine was mirrored after it was written.
    """
    axes = dwi.fsl_axes(affine)
    count = joined(maps.v1 @ axes, maps.fa, axes.T @ affine[:3, :3])
    if axis := reversed_axis(count):
        raise DataError(
            f"directions do not fit the image: fibres follow one another better with {axis} "
            "reversed",
            file=bvec,
            value=f"{count[GIVEN]:.0f} neighbours joined, {count[axis]:.0f} with {axis} reversed",
            remedy=f"change the signs of the row of {axis}, or undo what mirrored the image's "
            "affine; better, convert image and gradients again from DICOM together",
        )
    return count[GIVEN] / max(1.0, *(n for axis, n in count.items() if axis != GIVEN))


def save_maps(
    maps: TensorMaps, affine: NDArray, paths: dict[str, Path], sources: list[Path], method: str
) -> None:
    """Save every map with a sidecar that says what it is and in which axes."""
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
        volume.save(
            paths[name],
            Volume(getattr(maps, name), affine),
            sources,
            Description=description,
            Model=model,
            **units,
            **further.get(name, {}),
        )


def summary(maps: TensorMaps, mask: NDArray[np.bool_], spacing_mm: NDArray) -> dict[str, Any]:
    """Quality numbers of a fit, over the mask."""
    fa = maps.fa[mask]
    return {
        "mask_volume_l": round(float(mask.sum() * np.prod(spacing_mm)) * 1e-6, 4),
        "n_mask": int(mask.sum()),
        "n_without_signal": maps.n_without_signal,
        "n_raised": maps.n_raised,
        "n_nonpositive": maps.n_nonpositive,
        "lowest_eigenvalue_mm2_per_s": maps.lowest,
        "fa_mean": round(float(fa.mean()), 5),
        "fa_p95": round(float(np.percentile(fa, 95)), 5),
        "md_median_mm2_per_s": round(float(np.median(maps.md[mask])), 8),
    }


def main(
    root: Root,
    subject: Subject,
    dwi_path: Annotated[Path, typer.Option("--dwi", help="Diffusion series, 4D")],
    bval: Annotated[Path, typer.Option(help="b-values, FSL format")],
    bvec: Annotated[Path, typer.Option(help="Directions, FSL format")],
    session: Session = None,
    low: Low = None,
    supplied_mask: Annotated[
        Path | None, typer.Option(help="Brain mask on the series' grid; mask.method supplied")
    ] = None,
    config: ConfigFile = None,
    options: Annotated[
        str | None, typer.Option(help="Section dti of the configuration, JSON")
    ] = None,
) -> None:
    """Mask a diffusion series and fit the tensor."""
    section, unit = section_of("dti", config, options), unit_of(subject, session)
    if low:
        section = of_low_ratio(section, low_ratio(low))
    own, at = files_of(unit, root), files_of(unit, low_root(root, low) if low else root)
    names = ("fa", "md", "ad", "rd", "v1", "tensor", "mask")
    # A series that was corrected has its status beside it.
    corrected = own("preprocess-status") if dwi_path == own("dwi") else None
    fit_unit(
        unit, dwi_path, bval, bvec, **{name: at(f"dwi-{name}") for name in names}, b0=at("b0"),
        status=at("dti-status"), section=section, supplied_mask=supplied_mask,
        preprocess_status=corrected,
    )  # fmt: skip


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
    """Fit one unit's series; bad data end in its status, with empty maps."""
    maps_paths = {"fa": fa, "md": md, "ad": ad, "rd": rd, "v1": v1, "tensor": tensor}
    outputs = [*maps_paths.values(), mask, b0]
    with recorded("dti", unit, status, outputs) as record, dwi.findings_about(dwi_path):
        require_ok(*([preprocess_status] if preprocess_status else []))
        series = dwi.load(dwi_path, bval, bvec)
        threshold, affine = section.b0_threshold_s_per_mm2, series.volume.affine
        mean_b0 = dwi.mean_b0(series, threshold)
        chosen = dwi.volumes_to_fit(series.bvals, series.bvecs, threshold, section.max_b_s_per_mm2)
        weighted = series.bvals[chosen] > threshold
        data = series.volume.data[..., chosen]
        bvals = np.where(weighted, series.bvals[chosen], 0.0)
        mean_weighted = Volume(data[..., weighted].mean(axis=-1), affine)
        brain = find_mask(mean_b0, mean_weighted, section.mask, supplied_mask)
        if section.low_ratio > 1:
            seen = (Volume(data, affine), mean_b0, Volume(brain, affine))
            cropped = [crop_kspace(one, section.low_ratio) for one in seen]
            data, mean_b0 = np.maximum(cropped[0].data, 0), cropped[1]
            brain, affine = cropped[2].data >= 0.5, mean_b0.affine
        maps = fit_tensor(data, bvals, series.bvecs[chosen], brain, section.fit)
        fit_of_axes = require_fit_of_axes(maps, affine, bvec)
        sources = [dwi_path, bval, bvec]
        save_maps(maps, affine, maps_paths, sources, section.fit)
        volume.save(mask, Volume(brain, affine), sources, np.uint8, Type="Brain")
        volume.save(b0, mean_b0, sources, Description="Mean of the b = 0 volumes")
        record |= {
            "n_volumes": len(series.bvals),
            "n_b0": int((~weighted).sum()),
            "n_directions": int(weighted.sum()),
            "b_max_s_per_mm2": float(bvals.max()),
            "fit_of_axes": round(fit_of_axes, 3),
        } | summary(maps, brain, mean_b0.spacing_mm)
