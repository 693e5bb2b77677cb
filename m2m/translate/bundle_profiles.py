"""Profiles of a translated T1 along named bundles: the synthetic map, the atlas and, where given, measured maps.

The interval is conservative: half of it is 1.96 times the weighted mean of the standard deviations. This is the largest
standard deviation that the weighted mean's error can have, whatever the correlations between voxels: that of errors
which are fully correlated along a bundle.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m import GENERATED_BY, how_to_install
from m2m.diffusion.trx import write_trx
from m2m.io.dataset_links import uri
from m2m.io.errors import DataError
from m2m.io.files import write_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import write_table
from m2m.io.volume import Volume, load, resample
from m2m.models.reference_map import given_map, reference_map
from m2m.models.uncertainty import Prediction, on_line
from m2m.structural.named_bundles import NamedBundle, load_bundles, to_t1_space
from m2m.structural.profiles import Samples, core_weights, profile, sample
from m2m.structural.template import load_template
from m2m.translate.outputs import ProfileInputs, ProfileOutputs
from m2m.translate.predict import Record, Subject, Tensors, Translated
from m2m.translate.profile_tables import (
    LICENCE,
    MEAN_COLUMNS,
    MEASURED,
    PROFILE_COLUMNS,
    agreement,
    described,
    mean_row,
)

if TYPE_CHECKING:
    from m2m.structural.deformation import Deformed

# A normal distribution's 95 %, in standard deviations.
NORMAL_95 = 1.96
# By its name: it is of a room above, and needs the extras `evaluate` and `report`, which a translation does not.
DRAW = "m2m.figures.profile_figure:draw_profiles"


def compared_maps(tensors: Tensors, record: Record, inputs: ProfileInputs) -> dict[str, Volume]:
    """Load what the synthetic profiles are compared with.

    Parameters
    ----------
    tensors, record : mapping
        Of the model.
    inputs : ProfileInputs

    Returns
    -------
    dict of str to Volume
        In the unit of the target: ``atlas`` in MNI152 mm, where there is one, the model's own on the line that its
        maps are on; ``measured`` and ``second_measured`` in the T1's world mm, where they are given.

    Raises
    ------
    DataError
        The target is no scalar map, a file is no such map, or there are more than two measured maps.
    """
    target = MODALITIES[record["target"]]
    if target.nature != "scalar":
        raise DataError(
            f"profiles along bundles are of scalar maps, and the model predicts {target.title}",
            value=f"a {target.nature}",
            remedy="omit --bundles, or take a model of FA or MD",
        )
    if len(inputs.measured) > 2:
        raise DataError(
            "profiles have one measured map and a second measurement",
            value=f"{len(inputs.measured)} maps",
            remedy="give --measured twice at most",
        )
    if inputs.atlas is None:
        found = reference_map(tensors)
        if found is not None:
            own = on_line(Prediction(found.data, {}), record.get("calibration")).image.clip(*target.limits)
            found = Volume(np.where(found.data == 0, 0, own), found.affine)
    else:
        spacing_mm = record["spacing_mm"]
        found = Volume(given_map(inputs.atlas, spacing_mm, target), load_template("brain", spacing_mm).affine)
    others = {} if found is None else {"atlas": Volume(target.unscale(found.data), found.affine)}
    return others | dict(zip(MEASURED, (measured_map(path, record) for path in inputs.measured), strict=False))


def measured_map(path: Path, record: Record) -> Volume:
    """Load a measured map in its unit; DataError unless it is one volume within the limits of the target."""
    target, found = MODALITIES[record["target"]], load(path)
    low, high = target.limits
    scaled = target.scale(found.data)
    if found.data.ndim > 3 or not low <= scaled.min() <= scaled.max() <= high:
        raise DataError(
            f"is not a measured map of {target.title}",
            file=path,
            value=f"shape {found.data.shape}, {found.data.min():g} to {found.data.max():g}",
            remedy=f"give one volume of {target.title} in its unit, in the world space of the T1",
        )
    return found


def bundle_rows(bundle: NamedBundle, samples: Mapping[str, Samples]) -> list[dict[str, Any]]:
    """Rows of one bundle's profile.

    Parameters
    ----------
    bundle : NamedBundle
        In MNI152 mm.
    samples : mapping of str to Samples
        At its points: ``synthetic`` and ``sd``, the standard deviation of its error; ``atlas``, ``measured`` and
        ``second_measured`` where they are given.

    Returns
    -------
    list of dict
        `PROFILE_COLUMNS`; None where the profile is missing.
    """
    weights, in_brain = core_weights(bundle.points), samples["synthetic"].inside
    found = {name: profile(one._replace(inside=one.inside & in_brain), weights) for name, one in samples.items()}
    half = NORMAL_95 * found.pop("sd")
    found |= {"low": found["synthetic"] - half, "high": found["synthetic"] + half}
    n_points = in_brain.sum(axis=0)
    positions = np.linspace(0, 1, len(n_points))
    return [
        {"bundle": bundle.name, "position": round(float(position), 4), "n_points": int(n)}
        | {name: round(float(values[i]), 6) if np.isfinite(values[i]) else None for name, values in found.items()}
        for i, (position, n) in enumerate(zip(positions, n_points, strict=True))
    ]


def all_points(bundles: Sequence[NamedBundle]) -> NDArray:
    """Points of all bundles' streamlines, one bundle after the other: shape (streamlines, positions, 3), MNI152 mm."""
    return np.concatenate([bundle.points for bundle in bundles])


def places(bundles: Sequence[NamedBundle]) -> dict[str, range]:
    """Indices of each bundle's streamlines in `all_points`."""
    ends = np.cumsum([0, *(len(bundle.points) for bundle in bundles)]).tolist()
    return {bundle.name: range(*ends[i : i + 2]) for i, bundle in enumerate(bundles)}


def profile_all(
    bundles: Sequence[NamedBundle], in_t1: NDArray, brain: NDArray, maps: Mapping[str, Volume]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Profiles of a T1's maps along named bundles, and their means.

    Parameters
    ----------
    bundles : sequence of NamedBundle
    in_t1 : ndarray, shape (streamlines, positions, 3)
        `all_points` in the T1's world mm.
    brain : ndarray, shape (X, Y, Z)
        Where the synthetic map has values.
    maps : mapping of str to Volume
        ``synthetic`` and ``sd``, of one grid; the others, on any grid, have values where they are not 0.

    Returns
    -------
    rows, means : list of dict
        `PROFILE_COLUMNS` and `MEAN_COLUMNS`.
    """
    masks = {name: brain if name in ("synthetic", "sd") else volume.data != 0 for name, volume in maps.items()}
    samples = {name: sample(volume, masks[name], in_t1) for name, volume in maps.items()}
    found = places(bundles)
    parts = [(bundle, slice(found[bundle.name].start, found[bundle.name].stop)) for bundle in bundles]
    profiles = [bundle_rows(bundle, {name: one.part(own) for name, one in samples.items()}) for bundle, own in parts]
    means = [
        {"ends": bundle.ends, "n_streamlines": len(bundle.points)} | mean_row(own)
        for bundle, own in zip(bundles, profiles, strict=True)
    ]
    return [row for own in profiles for row in own], means


def write_profiles(
    subject: Subject,
    deformed: "Deformed",
    prediction: Translated,
    record: Record,
    compared: Mapping[str, Volume],
    outputs: ProfileOutputs,
    sources: Sequence[Path],
) -> None:
    """Write profiles along all named bundles, their means, their streamlines in the T1, and the figure.

    Parameters
    ----------
    subject : Subject
        The T1 on the model's grid.
    deformed : Deformed
        Displacements between T1 and template, on the same grid.
    prediction : Translated
        In scaled units, on the same grid.
    record : mapping
        Of the model.
    compared : mapping of str to Volume
        Of `compared_maps`.
    outputs : ProfileOutputs
    sources : sequence of Path
        For the sidecars.

    Raises
    ------
    DataError
        A measured map covers no bundle.
    """
    target = MODALITIES[record["target"]]
    image, sd = (Volume(target.unscale(part.data), part.affine) for part in prediction)
    grid = subject.image
    maps = dict(compared)
    if "atlas" in maps:  # on the grid of the synthetic map, so that both are equally smooth
        to_grid = (grid.affine, grid.shape, subject.to_mni, 1, deformed.forward)
        maps["atlas"] = resample(maps["atlas"], *to_grid)
    bundles = load_bundles()
    in_t1 = to_t1_space(all_points(bundles), subject.to_mni, Volume(deformed.inverse, grid.affine))
    rows, means = profile_all(bundles, in_t1, subject.brain.data, {"synthetic": image, "sd": sd} | maps)
    for name in (name for name in MEASURED if name in compared and all(row[name] is None for row in rows)):
        raise DataError(
            f"the map {name.replace('_', ' ')} covers none of the T1's bundles",
            remedy="give --measured a map that was registered to the T1, in its world space",
        )
    write_trx(outputs.streamlines, ArraySequence(list(in_t1)), grid.affine, grid.shape, places(bundles))
    about: dict[str, Any] = {"Sources": [uri(file, outputs.profiles) for file in sources], "GeneratedBy": GENERATED_BY}
    lines = {
        "Description": "Streamlines of named bundles, each a group, in the T1",
        "Units": "mm",
        "BundlesLicense": LICENCE,
    }
    write_json(outputs.streamlines.with_suffix(".json"), {**lines, **about, "Deformation": deformed.numbers})
    about |= {"Agreement": agreement(rows), "Deformation": deformed.numbers}
    tables = {outputs.profiles: (rows, PROFILE_COLUMNS), outputs.means: (means, MEAN_COLUMNS)}
    for path, (table, columns) in tables.items():
        write_table(path, table, columns)
        write_json(path.with_suffix(".json"), {**described(columns, record), **about})
    draw(rows, means, record, outputs.figure)


def draw(rows: list[dict], means: list[dict], record: Record, path: Path) -> None:
    """Draw the figure; without the libraries for it, print what to install and remove a figure of earlier tables."""
    module, function = DRAW.split(":")
    try:
        drawn_by = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        path.unlink(missing_ok=True)
        print(f"{path.name} was not drawn: {error.name} is not installed; {how_to_install('evaluate,report')}")
        return
    drawn_by(rows, means, MODALITIES[record["target"]].title, bool(record["simulated"]), path)
