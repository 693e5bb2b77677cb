"""Resampling of diffusion maps to the common grid: registration to the T1, target mask, quality.

FA is always resampled; other maps where a training task needs them, each according to its nature.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from PIL import Image

from m2m.diffusion import density
from m2m.diffusion.tensors import nearest_rotation
from m2m.io.bids import unit_files, unit_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole
from m2m.io.masks import in_mask
from m2m.io.modalities import REGISTERED, Modality, resampled_modality
from m2m.io.qc import CYAN, RED, YELLOW, Panel, draw, grey
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, fitted_as, load, require_same_grid, resample, resample_inside, save
from m2m.options import Grid
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject
from m2m.structural.map_resampling import Resampled, resample_density, resample_scalar, resample_tensor
from m2m.structural.other_orientations import align_from_centres, require_upright, rotated_dwi
from m2m.structural.register import align, mutual_information, rotation_deg, warp

# Least FA of white matter; its outline over the T1 shows the quality of the registration.
EDGE_FA = 0.25


def register_and_resample(
    t1: Volume, brain: Volume, fa: Volume, dwi_mask: Volume, kind: str, doubtful_mi: float = 0.0
) -> Resampled:
    """Register FA to the T1 and resample it onto the T1's grid.

    FA is registered rather than b0: its contrast of white matter does not depend on coil bias, and
    it needs no brain mask of a b0 that may be dark.

    Parameters
    ----------
    t1, brain : Volume
        On the common grid.
    fa, dwi_mask : Volume
        On the diffusion grid.
    kind : {"rigid", "affine", "syn", "none"}
        syn follows a rigid registration; each is kept only if it increases the mutual information
        in the volume that both scans cover.
    doubtful_mi : float
        Mutual information (nats) below which a second start is tried, the brains' centres.

    Returns
    -------
    Resampled

    Raises
    ------
    DataError
        The diffusion series does not overlap the T1's brain.
    """
    require_same_grid(t1, brain, "T1 and its brain mask")
    require_same_grid(fa, dwi_mask, "FA and the diffusion mask")
    fa = Volume(np.where(in_mask(dwi_mask.data), fa.data, 0), fa.affine)
    inside = in_mask(brain.data)
    if kind == "none":
        registration = align(t1, fa, inside, spacings_mm=())
    else:
        registration = align(t1, fa, inside, "affine" if kind == "affine" else "rigid")
        if registration.mi_registered < doubtful_mi:
            registration = align_from_centres(t1, inside, fa, dwi_mask, registration)
    grid = (t1.affine, t1.shape, registration.transform)
    on_grid, covered = resample_inside(fa, dwi_mask, *grid)
    syn = displacement = None
    if kind == "syn":
        both = inside & covered.data
        found = warp(t1, on_grid, both)
        mi = [mutual_information(t1, fa, grid[2], both, field) for field in (None, found)]
        syn = {"mi_linear": round(mi[0], 5), "mi_syn": round(mi[1], 5), "kept": mi[1] > mi[0]}
        if syn["kept"]:
            displacement = found
            on_grid, covered = resample_inside(fa, dwi_mask, *grid, displacement)
    target = inside & covered.data
    if not target.any():
        raise DataError(
            "the diffusion series does not overlap the T1's brain",
            remedy="check that the affines of both scans are in one scanner space",
        )
    masked = Volume(np.where(target, on_grid.data, 0), t1.affine)
    return Resampled(masked, Volume(target, t1.affine), registration, displacement, syn)


def quality(t1: Volume, brain: NDArray, wm: NDArray, resampled: Resampled, options: Grid) -> dict[str, Any]:
    """Quality measures of a registration, and reasons to exclude the unit.

    Parameters
    ----------
    t1 : Volume
    brain, wm : ndarray of bool
        On the T1's grid; white matter from the T1.
    resampled : Resampled
    options : options.Grid

    Returns
    -------
    dict
        Listed in docs/data.md; ``excluded`` holds the reasons.
    """
    target, fa = resampled.target.data, resampled.fa.data
    transform = resampled.registration.transform
    centre = apply_affine(t1.affine, np.argwhere(brain).mean(0))
    shift_mm = float(np.linalg.norm(apply_affine(transform, centre) - centre))
    coverage = float(target.sum() / brain.sum())
    fa_mean = float(fa[target].mean())
    varies = t1.data[target].std() > 0 and fa[target].std() > 0
    reasons = []
    low, high = options.fa_mean
    if not low <= fa_mean <= high:
        reasons.append(f"mean FA {fa_mean:.3f} is outside {low:g} to {high:g}")
    if coverage < options.min_coverage:
        reasons.append(f"DWI covers {coverage:.2f} of the brain, below {options.min_coverage:g}")
    if shift_mm > options.max_shift_mm:
        reasons.append(f"shift of {shift_mm:.1f} mm exceeds {options.max_shift_mm:g} mm")
    return {
        "t1_to_dwi": transform.tolist(),
        "mi_headers": round(resampled.registration.mi_headers, 5),
        "mi_registered": round(resampled.registration.mi_registered, 5),
        "kept": resampled.registration.kept,
        **({"syn": resampled.syn} if resampled.syn else {}),
        "shift_mm": round(shift_mm, 3),
        "rotation_deg": round(rotation_deg(transform), 3),
        "coverage": round(coverage, 4),
        "fa_mean": round(fa_mean, 4),
        "fa_wm": round(float(fa[wm & target].mean()), 4) if (wm & target).any() else None,
        "r_t1_fa": round(float(np.corrcoef(t1.data[target], fa[target])[0, 1]), 4) if varies else None,
        "excluded": reasons,
    }


# Functions that resample an image, by its nature; for density, streamlines are transformed instead.
IMAGES = {"scalar": resample_scalar, "tensor": resample_tensor}


def colour_fa(v1: Volume, resampled: Resampled) -> NDArray[np.float64]:
    """Direction-coded FA on the common grid: red right-left, green front-back, blue up-down.

    Parameters
    ----------
    v1 : Volume, shape (X, Y, Z, 3)
        Principal directions in RAS+ world axes of the diffusion series. They are rotated to the T1
        and resampled by nearest neighbour: their sign is arbitrary, so they must not be averaged.
    resampled : Resampled

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)

    References
    ----------
    Pajevic and Pierpaoli (1999), Magn Reson Med 42:526-540.
    """
    fa, transform = resampled.fa, resampled.registration.transform
    direction = resample(v1, fa.affine, fa.shape, transform, 0, resampled.displacement).data
    return np.abs(direction @ nearest_rotation(transform[:3, :3])) * fa.data[..., None]


def qc_figure(t1: Volume, brain: NDArray, v1: Volume, b0: Volume, resampled: Resampled) -> Image.Image:
    """Draw the QC figure of one unit: T1, mean b0, FA and colour FA with outlines.

    Parameters
    ----------
    t1 : Volume
    brain : ndarray of bool, shape (X, Y, Z)
        On the common grid.
    v1, b0 : Volume
        On the diffusion grid.
    resampled : Resampled

    Returns
    -------
    PIL.Image.Image
    """
    fa, target = resampled.fa.data, resampled.target.data
    transform = resampled.registration.transform
    b0_grid = resample(b0, t1.affine, t1.shape, transform, 1, resampled.displacement).data
    edge = fa > EDGE_FA
    panels = [
        Panel("T1, outline of FA > 0.25", grey(t1.data, brain), [(edge, RED)]),
        Panel(
            "mean b0, brain of T1 (red), target mask (yellow)",
            grey(b0_grid, brain),
            [(brain, RED), (target, YELLOW)],
        ),
        Panel("FA, brain of T1", np.clip(fa / 0.8, 0, 1), [(brain, CYAN)]),
        Panel("colour FA", np.clip(colour_fa(v1, resampled) / 0.8, 0, 1)),
    ]
    return draw(panels, brain, float(t1.spacing_mm[0]))


def resample_map(
    modality: Modality, files: Mapping[str, Path], dwi_mask: Volume, resampled: Resampled, method: str
) -> dict[str, Any]:
    """Resample a map to the common grid according to its nature, and save it.

    Parameters
    ----------
    modality : Modality
    files : mapping of str to path
        Of the unit, by kind.
    dwi_mask : Volume
    resampled : Resampled
    method : str
        Of `resample_density`.

    Returns
    -------
    dict
        Entries of the status.
    """
    sources = [files["t1w"], density.tractogram_file(files[modality.native])]
    if modality.nature != "density":
        found = IMAGES[modality.nature](load(files[modality.native]), dwi_mask, resampled)
        save(files[modality.kind], found, sources, **modality.sidecar() | fitted_as(files[modality.native]))
        return {}
    seeding = read_json(files["tractography-status"])
    streamlines = density.load_tractogram(files[modality.native])
    seeds = seeding["n_seeds"], seeding["seeded_mm3"]
    tdi, count = resample_density(streamlines, *seeds, resampled, method)
    tracking = {key: seeding.get(key) for key in ("model", "algorithm", "act")}
    about = modality.sidecar(**tracking, n_seeds=seeds[0], seeded_mm3=seeds[1], mapping=method)
    save(files[modality.kind], tdi, sources, **about)
    save(files["count"], count, sources, np.int32, **about | {"Description": "Streamlines per voxel"})
    return {
        "n_streamlines": len(streamlines),
        "tdi_mean": round(float(tdi.data[resampled.target.data].mean()), 4),
    }


def resample_unit(unit: str, files: Mapping[str, Path], maps: Sequence[Modality], settings: Grid) -> None:
    """Resample a unit's FA and further maps to the common grid; bad data end in its status.

    Parameters
    ----------
    unit : str
    files : mapping of str to path
        Of the unit, by kind: those read and those written.
    maps : sequence of Modality
        In addition to FA.
    settings : options.Grid
    """
    statuses, written = ["anat-status", "dti-status"], ["fa", "target-mask", "qc"]
    written += [modality.kind for modality in maps]
    if "density" in {modality.nature for modality in maps}:
        statuses, written = [*statuses, "tractography-status"], [*written, "count"]
    read = ["t1w", "brain", "wm", "dwi-fa", "dwi-mask", "dwi-v1", "b0", *statuses]
    inputs = [files[kind] for kind in read] + [density.tractogram_file(files[one.native]) for one in maps]
    with recorded("grid", unit, files["grid-status"], [files[kind] for kind in written], inputs) as record:
        require_ok(*(files[kind] for kind in statuses))
        kinds = ("t1w", "brain", "dwi-fa", "dwi-mask")
        t1_grid, brain_grid, fa_dwi, mask_dwi = (load(files[kind]) for kind in kinds)
        kind, doubtful_mi = settings.registration, settings.doubtful_mi
        resampled = register_and_resample(t1_grid, brain_grid, fa_dwi, mask_dwi, kind, doubtful_mi)
        inside = in_mask(brain_grid.data)
        if kind != "none" and resampled.registration.mi_registered < doubtful_mi:
            rotated = rotated_dwi(t1_grid, inside, fa_dwi, mask_dwi, resampled.registration.transform)
            record["rotated_mi_ratio"] = round(rotated.ratio, 4)
            require_upright(rotated, settings.max_rotated_mi, "grid.max_rotated_mi")
        record |= quality(t1_grid, inside, in_mask(load(files["wm"]).data), resampled, settings)
        sources = [files[kind] for kind in ("t1w", "dwi-fa", "dwi-mask")]
        save(files["fa"], resampled.fa, sources)
        save(files["target-mask"], resampled.target, sources, dtype=np.uint8, Type="Brain")
        for modality in maps:
            record |= resample_map(modality, files, mask_dwi, resampled, settings.density)
        v1, b0 = load(files["dwi-v1"]), load(files["b0"])
        with whole(files["qc"]) as temporary:
            qc_figure(t1_grid, inside, v1, b0, resampled).save(temporary, optimize=True)


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section grid")] = None,
    maps: Annotated[
        list[str] | None, typer.Option(help="Map to resample in addition to FA, by modality; repeat.")
    ] = None,
) -> None:
    """Register DWI to T1 by mutual information and resample FA to the common grid.

    Further maps, such as tensors and tract density, are resampled where they are named.
    """
    unit = unit_of(subject, session)
    further = [name for name in dict.fromkeys(maps or ()) if name != REGISTERED]
    chosen = [resampled_modality(name) for name in further]
    resample_unit(unit, unit_files(root, unit), chosen, section_of("grid", config, options))
