"""Diffusion maps to the common grid: registration to the T1, target mask, quality.

FA always; other maps where a task of the study needs them, each as its nature asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from nibabel.affines import apply_affine
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.diffusion import density
from m2m.diffusion.scales import log_tensor, tensor_of_log
from m2m.diffusion.tensors import nearest_rotation, rotate
from m2m.io.bids import unit_files, unit_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole
from m2m.io.modalities import REGISTERED, Modality, carried_modality
from m2m.io.programs import ProgramError
from m2m.io.qc import CYAN, RED, YELLOW, Panel, draw, grey
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, require_same_grid, resample, resample_inside, save
from m2m.options import Grid
from m2m.options.configured import section_of
from m2m.options.imaging_options import MAPPERS
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject
from m2m.structural.register import Registration, align, mutual_information, warp

# FA that white matter exceeds: its outline shows over the T1 whether the two agree.
EDGE_FA = 0.25


@dataclass(frozen=True)
class Carried:
    """Diffusion maps on the common grid.

    Attributes
    ----------
    fa : Volume
        0 outside the target mask.
    target : Volume
        Boolean: brain of the T1 that the diffusion series covers too.
    registration : Registration
        T1 world mm to DWI world mm.
    displacement : ndarray, shape (X, Y, Z, 3), or None
        Of the non-linear registration, in world mm; None if there was none or it did not help.
    syn : dict or None
        Mutual information before and after the non-linear registration, and whether it is kept.
    """

    fa: Volume
    target: Volume
    registration: Registration
    displacement: NDArray[np.float64] | None = None
    syn: dict[str, Any] | None = None


def carry(t1: Volume, brain: Volume, fa: Volume, dwi_mask: Volume, kind: str) -> Carried:
    """Register FA to the T1 and resample it onto the T1's grid.

    FA, not the b0, meets the T1: its white matter stands out whatever the coil's bias, and
    it needs no mask that a dark b0 would spoil.

    Parameters
    ----------
    t1, brain : Volume
        On the common grid.
    fa, dwi_mask : Volume
        On the diffusion grid.
    kind : {"rigid", "affine", "syn", "none"}
        syn follows a rigid registration; like it, it is kept only if it raises the mutual
        information, where both scans were measured.

    Raises
    ------
    DataError
        The diffusion series does not meet the T1's brain.
    """
    require_same_grid(t1, brain, "T1 and its brain mask")
    require_same_grid(fa, dwi_mask, "FA and the diffusion mask")
    fa = Volume(np.where(dwi_mask.data > 0, fa.data, 0), fa.affine)
    inside = brain.data > 0
    if kind == "none":
        registration = align(t1, fa, inside, spacings_mm=())
    else:
        registration = align(t1, fa, inside, "affine" if kind == "affine" else "rigid")
    there = (t1.affine, t1.shape, registration.transform)
    on_grid, covered = resample_inside(fa, dwi_mask, *there)
    syn = displacement = None
    if kind == "syn":
        both = inside & covered.data
        found = warp(t1, on_grid, both)
        mi = [mutual_information(t1, fa, there[2], both, field) for field in (None, found)]
        syn = {"mi_linear": round(mi[0], 5), "mi_syn": round(mi[1], 5), "kept": mi[1] > mi[0]}
        if syn["kept"]:
            displacement = found
            on_grid, covered = resample_inside(fa, dwi_mask, *there, displacement)
    target = inside & covered.data
    if not target.any():
        raise DataError(
            "the diffusion series does not meet the T1's brain",
            remedy="check that both scans' affines share one scanner space",
        )
    maps = [Volume(data, t1.affine) for data in (np.where(target, on_grid.data, 0), target)]
    return Carried(*maps, registration, displacement, syn)


def quality(
    t1: Volume, brain: NDArray, wm: NDArray, carried: Carried, options: Grid
) -> dict[str, Any]:
    """Quality numbers of a registration, and reasons not to use it.

    Parameters
    ----------
    t1 : Volume
    brain, wm : ndarray of bool
        On the T1's grid; white matter from the T1.
    carried : Carried
    options : options.Grid

    Returns
    -------
    dict
        As docs/data.md lists it; ``excluded`` holds the reasons.
    """
    target, fa = carried.target.data, carried.fa.data
    transform = carried.registration.transform
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
        "mi_headers": round(carried.registration.mi_headers, 5),
        "mi_registered": round(carried.registration.mi_registered, 5),
        "kept": carried.registration.kept,
        **({"syn": carried.syn} if carried.syn else {}),
        "shift_mm": round(shift_mm, 3),
        "rotation_deg": round(_rotation_deg(transform), 3),
        "coverage": round(coverage, 4),
        "fa_mean": round(fa_mean, 4),
        "fa_wm": round(float(fa[wm & target].mean()), 4) if (wm & target).any() else None,
        "r_t1_fa": round(float(np.corrcoef(t1.data[target], fa[target])[0, 1]), 4)
        if varies
        else None,
        "excluded": reasons,
    }


def _rotation_deg(transform: NDArray) -> float:
    """Angle of a transform's rotation."""
    cosine = (np.trace(nearest_rotation(transform[:3, :3])) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def carry_scalar(image: Volume, dwi_mask: Volume, carried: Carried) -> Volume:
    """Bring a map of one value a voxel to the common grid, as FA was: interpolated inside the mask.

    Parameters
    ----------
    image, dwi_mask : Volume
        On the diffusion grid.
    carried : Carried

    Returns
    -------
    Volume, shape (X, Y, Z)
        0 outside the target mask.
    """
    require_same_grid(image, dwi_mask, "map and the diffusion mask")
    inside = Volume(np.where(dwi_mask.data > 0, image.data, 0), image.affine)
    target, transform = carried.target, carried.registration.transform
    there = (target.affine, target.shape, transform, carried.displacement)
    on_grid, _ = resample_inside(inside, dwi_mask, *there)
    return Volume(np.where(target.data, on_grid.data, 0), target.affine)


def carry_tensor(tensor: Volume, dwi_mask: Volume, carried: Carried) -> Volume:
    """Bring tensors to the common grid: interpolated as logarithms, turned with the head.

    Parameters
    ----------
    tensor : Volume, shape (X, Y, Z, 6)
        mm2/s, world axes of the diffusion series. A voxel without a fit counts as isotropic.
    dwi_mask : Volume
        On the same grid.
    carried : Carried
        Without a non-linear registration.

    Returns
    -------
    Volume, shape (X, Y, Z, 6)
        World axes of the T1; positive definite inside the target mask, 0 outside.

    References
    ----------
    Alexander et al. (2001), IEEE TMI 20:1131, https://doi.org/10.1109/42.963816 (reorientation);
    Arsigny et al. (2006), MRM 56:411, https://doi.org/10.1002/mrm.20965.
    """
    target, transform = carried.target, carried.registration.transform
    logarithm = Volume(log_tensor(tensor.data), tensor.affine)
    there = (target.affine, target.shape, transform)
    on_grid = resample_inside(logarithm, dwi_mask, *there)[0].data
    back = nearest_rotation(transform[:3, :3]).T
    data = np.zeros_like(on_grid)
    data[target.data] = tensor_of_log(rotate(on_grid[target.data], back))
    return Volume(data, target.affine)


# How images are carried, by nature; streamlines are moved instead.
IMAGES = {"scalar": carry_scalar, "tensor": carry_tensor}


def carry_density(
    streamlines: ArraySequence, n_seeds: int, seeded_mm3: float, carried: Carried, method: str
) -> tuple[Volume, Volume]:
    """Map streamlines of the diffusion series' world on the common grid.

    Parameters
    ----------
    streamlines : ArraySequence
        DWI world mm.
    n_seeds, seeded_mm3
        As in `density.normalised`.
    carried : Carried
        Without a non-linear registration.
    method : str
        A key of `MAPPERS`.

    Returns
    -------
    tdi, count : Volume
        Tract density, and streamlines per voxel; 0 outside the target mask.

    Raises
    ------
    DataError
        No streamline meets the target mask, or tckmap failed.
    """
    target, transform = carried.target, carried.registration.transform
    moved = density.move(streamlines, np.linalg.inv(transform))
    map_of = MAPPERS[method].load()
    try:
        count = np.where(target.data, map_of(moved, target.affine, target.shape), 0)
    except ProgramError as error:
        raise DataError(str(error).splitlines()[0], remedy="see the log") from error
    if not count.any():
        raise DataError(
            "no streamline meets the brain", value=f"{len(moved)} streamlines",
            remedy="look at the tractogram's picture and at the registration",
        )  # fmt: skip
    in_t1_mm3 = seeded_mm3 / abs(np.linalg.det(transform[:3, :3]))
    tdi = density.normalised(count, n_seeds, in_t1_mm3, target.affine)
    return Volume(tdi, target.affine), Volume(count, target.affine)


def colour_fa(v1: Volume, carried: Carried) -> NDArray[np.float64]:
    """Direction-coded FA on the common grid: red right-left, green front-back, blue up-down.

    Parameters
    ----------
    v1 : Volume, shape (X, Y, Z, 3)
        Principal directions in RAS+ world axes of the diffusion series. They are turned back
        by the registration's rotation and sampled at the nearest voxel: their sign is
        arbitrary, so they must not be averaged.
    carried : Carried

    References
    ----------
    Pajevic and Pierpaoli (1999), Magn Reson Med 42:526-540.
    """
    fa, transform = carried.fa, carried.registration.transform
    direction = resample(v1, fa.affine, fa.shape, transform, 0, carried.displacement).data
    return np.abs(direction @ nearest_rotation(transform[:3, :3])) * fa.data[..., None]


def picture(t1: Volume, brain: NDArray, v1: Volume, b0: Volume, carried: Carried):
    """Quality picture of one person: T1, mean b0, FA and colour FA with outlines."""
    fa, target = carried.fa.data, carried.target.data
    transform = carried.registration.transform
    b0_grid = resample(b0, t1.affine, t1.shape, transform, 1, carried.displacement).data
    edge = fa > EDGE_FA
    panels = [
        Panel("T1, outline of FA > 0.25", grey(t1.data, brain), [(edge, RED)]),
        Panel(
            "mean b0, brain of T1 (red), target mask (yellow)",
            grey(b0_grid, brain), [(brain, RED), (target, YELLOW)],
        ),
        Panel("FA, brain of T1", np.clip(fa / 0.8, 0, 1), [(brain, CYAN)]),
        Panel("colour FA", np.clip(colour_fa(v1, carried) / 0.8, 0, 1)),
    ]  # fmt: skip
    return draw(panels, brain, float(t1.spacing_mm[0]))


def bring(
    modality: Modality, files: Mapping[str, Path], dwi_mask: Volume, carried: Carried, method: str
) -> dict[str, Any]:
    """Carry a map to the common grid as its nature asks, and save it.

    Parameters
    ----------
    modality : Modality
    files : mapping of str to path
        Of the unit, by kind.
    dwi_mask : Volume
    carried : Carried
    method : str
        Of `carry_density`.

    Returns
    -------
    dict
        Numbers for the record.
    """
    sources = [files["t1w"], files[modality.native]]
    if modality.nature != "density":
        found = IMAGES[modality.nature](load(files[modality.native]), dwi_mask, carried)
        save(files[modality.kind], found, sources, Description=modality.description)
        return {}
    seeding = read_json(files["tractography-status"])
    streamlines = density.load_tractogram(files[modality.native])
    seeds = seeding["n_seeds"], seeding["seeded_mm3"]
    tdi, count = carry_density(streamlines, *seeds, carried, method)
    about = {"NumberOfSeeds": seeds[0], "Mapping": method}
    save(files[modality.kind], tdi, sources, Description=modality.description, **about)
    save(files["count"], count, sources, np.int32, Description="Streamlines per voxel", **about)
    return {
        "n_streamlines": len(streamlines),
        "tdi_mean": round(float(tdi.data[carried.target.data].mean()), 4),
    }


def bring_all(
    unit: str, files: Mapping[str, Path], maps: Sequence[Modality], settings: Grid
) -> None:
    """Bring a unit's FA to the common grid, and further maps with it.

    Parameters
    ----------
    unit : str
    files : mapping of str to path
        Of the unit, by kind: those read and those written.
    maps : sequence of Modality
        Besides FA.
    settings : options.Grid
    """
    statuses, written = ["anat-status", "dti-status"], ["fa", "target-mask", "picture"]
    written += [modality.kind for modality in maps]
    if "density" in {modality.nature for modality in maps}:
        statuses, written = [*statuses, "tractography-status"], [*written, "count"]
    with recorded("grid", unit, files["grid-status"], [files[kind] for kind in written]) as record:
        require_ok(*(files[kind] for kind in statuses))
        kinds = ("t1w", "brain", "dwi-fa", "dwi-mask")
        t1_grid, brain_grid, fa_dwi, mask_dwi = (load(files[kind]) for kind in kinds)
        carried = carry(t1_grid, brain_grid, fa_dwi, mask_dwi, settings.registration)
        inside = brain_grid.data > 0
        record |= quality(t1_grid, inside, load(files["wm"]).data > 0, carried, settings)
        sources = [files[kind] for kind in ("t1w", "dwi-fa", "dwi-mask")]
        save(files["fa"], carried.fa, sources)
        save(files["target-mask"], carried.target, sources, dtype=np.uint8, Type="Brain")
        for modality in maps:
            record |= bring(modality, files, mask_dwi, carried, settings.density)
        v1, b0 = load(files["dwi-v1"]), load(files["b0"])
        with whole(files["picture"]) as temporary:
            picture(t1_grid, inside, v1, b0, carried).save(temporary, optimize=True)


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section grid")] = None,
    maps: Annotated[
        list[str] | None, typer.Option(help="Map to bring besides FA, by modality; repeat.")
    ] = None,
) -> None:
    """Register DWI to T1 by mutual information and bring FA to the common grid.

    Further maps, such as tensors and tract density, too, where they are named.
    """
    unit = unit_of(subject, session)
    further = [name for name in dict.fromkeys(maps or ()) if name != REGISTERED]
    chosen = [carried_modality(name) for name in further]
    bring_all(unit, unit_files(root, unit), chosen, section_of("grid", config, options))
