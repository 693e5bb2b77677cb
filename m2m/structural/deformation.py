"""Deformation of the template to each T1 on the common grid, by symmetric diffeomorphic registration (SyN).

References
----------
Avants et al. (2008), Med Image Anal 12:26-41, https://doi.org/10.1016/j.media.2007.06.004;
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
from dipy.align.metrics import CCMetric
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from m2m.diffusion.tensors import voxel_axes
from m2m.io.bids import files_of, unit_of
from m2m.io.files import file_digest, read_json, whole
from m2m.io.masks import in_mask
from m2m.io.qc import CYAN, RED, Panel, draw, grey
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, require_same_grid, resample, save
from m2m.options import Deformation
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject
from m2m.structural.displacement import jacobians
from m2m.structural.register import mutual_information
from m2m.structural.template import load_template

# Margin (mm) around the brain, for displacements and for the window of the correlation.
MARGIN_MM = 8.0
# Percentiles inside the brain that are scaled to 0 and 1, and the largest scaled value: the brightest white matter
# keeps its contrast, and vessels get no weight of their own.
RANGE_PERCENT = (1, 99)
MOST = 1.2
# Displacements are rounded to this part of a mm: such files are smaller by half.
ROUNDED_MM = 2.0**-7
# Least probability of the template's white matter inside its outline.
EDGE_WM = 0.5


@dataclass(frozen=True)
class Deformed:
    """Displacements between a T1 and the template, after the affine registration.

    Attributes
    ----------
    forward, inverse : ndarray, shape (X, Y, Z, 3)
        On the common grid, in mm along the T1's world axes, as `m2m.structural.displacement` defines them.
    numbers : dict
        Quality measures, listed in docs/data.md; ``kept`` is ``deformation`` or ``affine``.
    """

    forward: NDArray[np.float32]
    inverse: NDArray[np.float32]
    numbers: dict[str, Any]


def deform(t1: Volume, brain: Volume, to_mni: NDArray, options: Deformation) -> Deformed:
    """Deform the template to a T1; keep the affine alone where this folds space or does not raise the similarity.

    Parameters
    ----------
    t1, brain : Volume
        On the common grid: brain-extracted T1, mask.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    options : options.Deformation

    Returns
    -------
    Deformed
    """
    require_same_grid(t1, brain, "T1 and its brain mask")
    fields = (np.round(field / ROUNDED_MM) * ROUNDED_MM for field in register(t1, brain, to_mni, options))
    forward, inverse = (field.astype(np.float32) for field in fields)
    numbers = quality(t1, in_mask(brain.data), to_mni, forward, inverse)
    reasons = []
    if numbers["folded_share"] > options.max_folded_share:
        reasons.append(f"{numbers['folded_share']:.4f} of the brain is folded, above {options.max_folded_share:g}")
    if numbers["mi_deformed"] <= numbers["mi_affine"]:
        reasons.append(f"mutual information fell from {numbers['mi_affine']:.4f} to {numbers['mi_deformed']:.4f}")
    numbers |= {"kept": "affine" if reasons else "deformation", "reasons": reasons}
    if reasons:
        forward, inverse = np.zeros_like(forward), np.zeros_like(inverse)
    return Deformed(forward, inverse, numbers)


def quality(
    t1: Volume, inside: NDArray[np.bool_], to_mni: NDArray, forward: NDArray, inverse: NDArray
) -> dict[str, Any]:
    """Quality measures of displacements, listed in docs/data.md.

    Parameters
    ----------
    t1 : Volume
    inside : ndarray of bool, shape (X, Y, Z)
        The brain.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    forward, inverse : ndarray, shape (X, Y, Z, 3)

    Returns
    -------
    dict
    """
    template = load_template("t1", float(t1.spacing_mm.mean()))
    fields = (None, forward)
    affine, deformed = (mutual_information(t1, template, to_mni, inside, field) for field in fields)
    determinant = np.linalg.det(jacobians(forward, t1.affine))[inside]
    size_mm = np.linalg.norm(forward, axis=-1)[inside]
    back = resample(Volume(inverse, t1.affine), t1.affine, t1.shape, None, 1, forward).data
    error_mm = np.linalg.norm(forward + back, axis=-1)[inside]
    return {
        "mi_affine": round(affine, 5),
        "mi_deformed": round(deformed, 5),
        "jacobian_min": round(float(determinant.min()), 4),
        "jacobian_p1": round(float(np.percentile(determinant, 1)), 4),
        "jacobian_p99": round(float(np.percentile(determinant, 99)), 4),
        "folded_share": round(float((determinant <= 0).mean()), 6),
        "displacement_mean_mm": round(float(size_mm.mean()), 3),
        "displacement_max_mm": round(float(size_mm.max()), 3),
        "inverse_error_mean_mm": round(float(error_mm.mean()), 4),
        "inverse_error_p99_mm": round(float(np.percentile(error_mm, 99)), 4),
    }


def register(t1: Volume, brain: Volume, to_mni: NDArray, options: Deformation) -> tuple[NDArray, NDArray]:
    """Find the displacements between a T1 and the template, whatever they are worth.

    Parameters
    ----------
    t1, brain : Volume
        On the common grid: brain-extracted T1, mask.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    options : options.Deformation

    Returns
    -------
    forward, inverse : ndarray, shape (X, Y, Z, 3)
        As in `Deformed`, not rounded.
    """
    template, covered = (
        resample(load_template(tissue, float(t1.spacing_mm.mean())), t1.affine, t1.shape, to_mni).data
        for tissue in ("t1", "brain")
    )
    inside = in_mask(brain.data)
    moving = _scaled(template, in_mask(covered))
    return displacements(Volume(_scaled(t1.data, inside), t1.affine), moving, inside, options)


def displacements(
    static: Volume, moving: NDArray, inside: NDArray[np.bool_], options: Deformation
) -> tuple[NDArray, NDArray]:
    """Find the displacements between two images on one grid by SyN.

    Parameters
    ----------
    static : Volume
        Scaled.
    moving : ndarray, shape (X, Y, Z)
        Scaled, on the same grid: the affine is in it, not in the field.
    inside : ndarray of bool, shape (X, Y, Z)
        The object; the registration looks at it and a margin.
    options : options.Deformation

    Returns
    -------
    forward, inverse : ndarray, shape (X, Y, Z, 3)
        World mm: a point ``p`` of `static` corresponds to ``p + forward(p)`` of `moving`, and back.
    """
    margin = max(int(np.ceil(MARGIN_MM / float(static.spacing_mm.mean()))), options.radius + 1)
    found = ndimage.find_objects(inside.astype(np.int8))[0]
    box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in found)
    # DIPY measures along the axes of the grid.
    grid = np.diag([*static.spacing_mm, 1.0])
    # Resolutions at which the volume is smaller than the window of the correlation are left out.
    n_levels = 1 + int(np.log2(min(inside[box].shape) / (2 * options.radius + 1)))
    optimiser = SymmetricDiffeomorphicRegistration(
        CCMetric(3, sigma_diff=options.smooth_voxels, radius=options.radius),
        level_iters=list(options.iterations[-n_levels:]),
        step_length=options.step_voxels,
    )
    optimiser.verbosity = 0
    mapping = optimiser.optimize(static.data[box], moving[box], static_grid2world=grid, moving_grid2world=grid)
    # Not `mapping.forward`: the result of DIPY is the inverse of a map, whose fields are the other way round.
    return _whole(mapping.get_forward_field(), box, static), _whole(mapping.get_backward_field(), box, static)


def _scaled(image: NDArray, inside: NDArray) -> NDArray[np.float32]:
    """Scale percentiles inside the brain to 0 and 1, so that few bright voxels have no weight."""
    low, high = np.percentile(image[inside], RANGE_PERCENT)
    return np.clip((image - low) / max(high - low, 1e-6), 0, MOST).astype(np.float32)


def _whole(field: NDArray, box: tuple[slice, ...], grid: Volume) -> NDArray[np.float64]:
    """Displacement on the whole grid, 0 outside the box, from axes of the grid to those of the world."""
    whole = np.zeros((*grid.shape, 3))
    whole[box] = field @ voxel_axes(grid.affine).T
    return whole


def qc_figure(t1: Volume, inside: NDArray[np.bool_], to_mni: NDArray, forward: NDArray) -> Image.Image:
    """Draw the QC figure of one unit: the template's white matter over the T1, the warped template, the Jacobian.

    Parameters
    ----------
    t1 : Volume
    inside : ndarray of bool, shape (X, Y, Z)
        The brain.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    forward : ndarray, shape (X, Y, Z, 3)

    Returns
    -------
    PIL.Image.Image
    """
    spacing_mm = float(t1.spacing_mm.mean())
    grid = (t1.affine, t1.shape, to_mni, 1)
    affine, deformed = (
        resample(load_template("wm", spacing_mm), *grid, field).data > EDGE_WM for field in (None, forward)
    )
    template = resample(load_template("t1", spacing_mm), *grid, forward).data
    determinant = np.linalg.det(jacobians(forward, t1.affine))
    panels = [
        Panel("T1, white matter of the template: affine", grey(t1.data, inside), [(affine, CYAN)]),
        Panel("T1, white matter of the template: deformed", grey(t1.data, inside), [(deformed, RED)]),
        Panel("template, deformed to the T1", grey(template, inside), [(inside, CYAN)]),
        Panel(
            "Jacobian determinant, 0 black to 2 white; folded red",
            np.clip(determinant / 2, 0, 1) * inside,
            [((determinant <= 0) & inside, RED)],
        ),
    ]
    return draw(panels, inside, spacing_mm)


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section deformation")] = None,
) -> None:
    """Deform the MNI152 T1 to a participant's T1 by symmetric diffeomorphic registration.

    The displacements are checked for folding, and kept only where they raise the similarity of both images.
    """
    unit = unit_of(subject, session)
    deform_unit(unit, root, section_of("deformation", config, options))


def deform_unit(unit: str, root: Path, settings: Deformation) -> None:
    """Deform the template to one unit's T1; bad data end in its status, with empty files.

    Parameters
    ----------
    unit : str
    root : Path
        The derivative dataset.
    settings : options.Deformation
    """
    at = files_of(unit, root)
    outputs = at("deformation"), at("inverse-deformation"), at("deform-figure")
    inputs = at("t1w"), at("brain"), at("anat-status")
    with recorded("deform", unit, at("deform-status"), outputs, inputs) as record:
        require_ok(at("anat-status"))
        t1, brain = load(at("t1w")), load(at("brain"))
        to_mni = np.array(read_json(at("anat-status"))["grid_to_mni"])
        found = deform(t1, brain, to_mni, settings)
        about: dict[str, Any] = {
            "Units": "mm",
            "Description": "Displacements along the world axes (RAS+) of the T1, to be added to points of this grid",
        }
        directions = {
            "deformation": "from the T1 to the template, followed by grid_to_mni of the status of anat",
            "inverse-deformation": "from the template, by the inverse of grid_to_mni of the status of anat, to the T1",
        }
        for kind, field in (("deformation", found.forward), ("inverse-deformation", found.inverse)):
            save(at(kind), Volume(field, t1.affine), inputs[:2], Direction=directions[kind], **about)
        with whole(at("deform-figure")) as temporary:
            qc_figure(t1, in_mask(brain.data), to_mni, found.forward).save(temporary, optimize=True)
        hashes = "".join(file_digest(at(kind)) for kind in directions)
        record |= found.numbers | {"sha256": hashes, "options": settings.model_dump(mode="json")}
