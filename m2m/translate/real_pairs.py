"""Real pairs of T1 and DWI: measured maps, and those of the T1 by weights and by an atlas, on one grid.

Each participant is prepared by the stages of the workflow. What is found is in the dataset ``real`` of the results, or
``real-md`` for another map than FA; that of another series of a participant is in ``second_measurement`` inside it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.describe import describe
from m2m.cohort.index import COLUMNS, build_manifest, list_files
from m2m.cohort.spellings import Row
from m2m.cohort.validate import validate
from m2m.diffusion.dti import fit_unit
from m2m.diffusion.tractography import files_of_series, track_unit
from m2m.io.bids import files_of, pair_map, unit_files
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES, REGISTERED, Modality
from m2m.io.overwriting import require_outside
from m2m.io.tables import write_table
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, resample, resample_inside, save
from m2m.models.pretrained import compared_weights
from m2m.models.record import load_model
from m2m.options import Anat, Cohort, Deformation, Dti, Grid, Real, Tractography
from m2m.options.configured import read_config
from m2m.options.real_options import ATLAS_AFFINE, ATLAS_SYN, PAIR_COLUMNS, PAIRS, SECOND_FOLDER
from m2m.options.stage_flags import NeededConfig, Root
from m2m.structural.anat import prepare, prepare_unit
from m2m.structural.coregistration import resample_unit
from m2m.structural.deformation import deform_unit
from m2m.structural.displacement import load_displacement
from m2m.structural.group_map import to_template
from m2m.translate.displacements import displacement_of
from m2m.translate.native import require_model_of_t1
from m2m.translate.predict import Network, Subject, predict, unscaled

ATLAS = "atlas.nii.gz"
# Files of a T1, which another series of the participant shares, and those of a tensor fit in their order.
OF_T1 = ("t1w", "brain", "wm", "anat-status")
OF_FIT = ("dwi-fa", "dwi-md", "dwi-ad", "dwi-rd", "dwi-v1", "dwi-tensor", "dwi-mask")


@dataclass(frozen=True)
class Prepared:
    """A participant's T1 on the common grid of the pairs.

    Attributes
    ----------
    native : Path
        The T1 as it was acquired.
    mask : Path or None
        Brain mask of the dataset, on its voxels.
    t1, brain : Volume
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    forward : ndarray, shape (X, Y, Z, 3)
        Displacements to the template.
    """

    native: Path
    mask: Path | None
    t1: Volume
    brain: Volume
    to_mni: NDArray[np.float64]
    forward: NDArray[np.float32]


@dataclass(frozen=True)
class Sections:
    """Sections of the configuration that pairs are prepared by."""

    real: Real
    dti: Dti
    tractography: Tractography
    grid: Grid
    deformation: Deformation

    @property
    def further_maps(self) -> list[Modality]:
        """Measured maps beside FA, which every pair has."""
        return [] if self.real.target == REGISTERED else [MODALITIES[self.real.target]]


# From a participant's T1 to the target on the common grid, in its unit.
Method = Callable[[Prepared], Volume]


def by_atlas(atlas: Volume, deformed: bool, pair: Prepared) -> Volume:
    """Carry an atlas to a T1, by the affine alone or by the deformation, too."""
    grid = (pair.t1.affine, pair.t1.shape, pair.to_mni, 1)
    return resample(atlas, *grid, pair.forward if deformed else None)


def by_weights(weights: Path, target: str) -> Method:
    """Method that translates a T1 as `m2m translate` does, on the grid of the model, to its map on the common grid.

    Raises
    ------
    DataError
        The weights are no model, or it does not predict the target from a T1.
    """
    tensors, record = load_model(weights, weights.with_name("model.json"))
    require_model_of_t1(record)
    if record["target"] != target:
        title = MODALITIES[target].title
        raise DataError(f"the model does not predict {title}", file=weights, value=record["target"])
    grid = Anat(spacing_mm=record["spacing_mm"], shape=record["shape"])

    def translate(pair: Prepared) -> Volume:
        anatomy = prepare(load(pair.native), load(pair.mask) if pair.mask else None, grid)
        on_grid = anatomy.t1, anatomy.brain, anatomy.grid_to_mni
        subject = Subject(*on_grid, displacement=displacement_of(*on_grid, record))
        scaled = predict(subject, tensors, record, Network(weights=weights)).image
        found, inside = resample_inside(scaled, anatomy.brain, pair.t1.affine, pair.t1.shape)
        return unscaled(found, inside.data, record)

    return translate


def methods_of(section: Real, root: Path) -> dict[str, Method]:
    """Every method by its row, in the order of the tables; the registered atlas is written to `root`."""
    weights = compared_weights(section.weights, section.target)
    methods = {name: by_weights(path, section.target) for name, path in weights.items()}
    if section.reference_map is None:
        return methods
    atlas = to_template(load(section.reference_map))
    save(root / ATLAS, atlas, [section.reference_map], Description="Group average of FA, registered to the template")
    return methods | {ATLAS_AFFINE: partial(by_atlas, atlas, False), ATLAS_SYN: partial(by_atlas, atlas, True)}


def pairs_of(bids_dir: Path, fit: Dti) -> list[tuple[Row, Row | None]]:
    """Units with both scans, and another series of the participant where there is one: of the same session first.

    Series that differ from the chosen one by shell only, which the workflow would join, are no second measurement.
    """
    manifest = [dict.fromkeys(COLUMNS) | row for row in build_manifest(bids_dir, list_files(bids_dir))]
    units, _ = validate(manifest, Cohort(source="bids", bids_dir=bids_dir, check_voxels=False), fit=fit)
    series = [row for row in manifest if row["suffix"] == "dwi" and row["bval"] and not row["left_out"]]
    found = []
    for unit in (row for row in units if row["state"] == "paired"):
        used = {unit["dwi"], *(path for path, *_ in json.loads(unit["joined"] or "[]"))}
        others = [row for row in series if row["participant_id"] == unit["participant_id"] and row["path"] not in used]
        others.sort(key=lambda row: row["session_id"] != unit["session_id"])
        found.append((unit, others[0] if others else None))
    return found


def measure(unit: str, series: Row, root: Path, into: Path, sections: Sections) -> None:
    """Fit the tensors of a series and resample what is compared to the grid of the T1; bad data end in their status.

    Parameters
    ----------
    unit : str
    series : dict
        ``dwi`` or ``path``, ``bval``, ``bvec``; ``dwi_mask`` or ``mask``.
    root, into : Path
        Datasets of the T1 on the common grid, and of what is measured.
    sections : Sections
    """
    of_t1 = unit_files(root, unit)
    files = unit_files(into, unit) | {kind: of_t1[kind] for kind in OF_T1}
    path, mask = (series.get(name) or series.get(other) for name, other in (("dwi", "path"), ("dwi_mask", "mask")))
    dwi, bval, bvec = (Path(str(name)) for name in (path, series["bval"], series["bvec"]))
    outputs = {kind.removeprefix("dwi-"): files[kind] for kind in OF_FIT} | {"b0": files["b0"]}
    supplied = Path(mask) if mask else None
    fit_unit(unit, dwi, bval, bvec, **outputs, status=files["dti-status"], section=sections.dti, supplied_mask=supplied)
    if "density" in {modality.nature for modality in sections.further_maps}:
        tracked = files_of_series(files.__getitem__, sections.tractography)
        track_unit(unit, section=sections.tractography, fit=sections.dti, scan=(dwi, bval, bvec), **tracked)
    resample_unit(unit, files, sections.further_maps, sections.grid)


def prepare_pair(unit: Row, second: Row | None, root: Path, sections: Sections) -> None:
    """Prepare a participant: T1, deformation, measured maps and, where there is one, a second measurement.

    Parameters
    ----------
    unit : dict
        Row of units.tsv.
    second : dict or None
        Row of the manifest.
    root : Path
        Dataset of the pairs.
    sections : Sections
    """
    name, mask = str(unit["unit"]), unit["t1w_mask"]
    at = files_of(name, root)
    t1w, brain, wm, status = (at(kind) for kind in OF_T1)
    supplied = Path(mask) if mask else None
    prepare_unit(name, Path(str(unit["t1w"])), t1w, brain, wm, status, sections.real.anat, supplied)
    deform_unit(name, root, sections.deformation)
    measure(name, unit, root, root, sections)
    if second is not None:
        measure(name, second, root, root / SECOND_FOLDER, sections)


def translate_pair(unit: Row, methods: Mapping[str, Method], target: str, root: Path) -> None:
    """Write the map of a prepared participant by every method; bad data end in its status, with empty maps.

    Parameters
    ----------
    unit : dict
        Row of units.tsv.
    methods : mapping of str to Method
    target : str
        Modality.
    root : Path
        Dataset of the pairs.
    """
    name, modality = str(unit["unit"]), MODALITIES[target]
    at, outputs = files_of(name, root), {row: pair_map(root, name, row, modality.kind) for row in methods}
    with recorded("translate-pairs", name, at("pair-status"), outputs.values()) as record:
        require_ok(at("anat-status"), at("deform-status"), at("grid-status"))
        t1, brain, anat = load(at("t1w")), load(at("brain")), read_json(at("anat-status"))
        brain = Volume(in_mask(brain.data), brain.affine)
        mask = Path(unit["t1w_mask"]) if unit["t1w_mask"] else None
        forward = load_displacement(at("deformation"), t1).data
        pair = Prepared(Path(str(unit["t1w"])), mask, t1, brain, np.array(anat["grid_to_mni"]), forward)
        for row, method in methods.items():
            found = method(pair).data
            found[~brain.data] = 0
            about = modality.sidecar(Method=row)
            about["Description"] += f", from the T1 by {row}; research only, no clinical use"
            save(outputs[row], Volume(found.astype(np.float32), t1.affine), [at("t1w")], **about)
        record["excluded"] = [*anat["excluded"], *read_json(at("grid-status"))["excluded"]]


def listed(unit: Row, second: Row | None, root: Path) -> dict[str, str | None]:
    """Row of pairs.tsv: the series, why the workflow would exclude the participant, and its problem if it failed."""
    status = read_json(files_of(str(unit["unit"]), root)("pair-status"))
    found = {key: unit[key] for key in ("unit", "participant_id", "folder")}
    for key, path in (("dwi", unit["dwi"]), ("second_dwi", second["path"] if second else None)):
        found[key] = Path(path).name if path else None
    found["excluded"] = "; ".join(status.get("excluded", ())) or None
    return found | {"problem": None if status["status"] == "ok" else status["finding"]["problem"]}


def main(root: Root, config: NeededConfig) -> None:
    """Prepare real pairs of T1 and DWI; warp an atlas to each T1, and translate it by every set of weights.

    A participant with bad data is listed with the problem, and the others go on.
    """
    written = read_config(config)
    sections = Sections(*(written.section(name) for name in ("real", "dti", "tractography", "grid", "deformation")))
    write_pairs(root / sections.real.folder, sections)


def write_pairs(root: Path, sections: Sections) -> None:
    """Write the dataset of the pairs, and the list of them.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    sections : Sections

    Raises
    ------
    DataError
        There is no BIDS folder, or no pair in it.
    """
    source = sections.real.bids_dir
    if source is None:
        raise DataError("real.bids_dir is not set", remedy="name a BIDS folder of T1 and DWI in the configuration")
    require_outside(root, source)
    describe(root, str(source), root.name, SECOND_FOLDER, "*.tsv", "*.md", "atlas.*")
    describe(root / SECOND_FOLDER, str(source), f"{root.name}/{SECOND_FOLDER}")
    methods, rows = methods_of(sections.real, root), []
    for unit, second in pairs_of(source, sections.dti):
        prepare_pair(unit, second, root, sections)
        translate_pair(unit, methods, sections.real.target, root)
        rows.append(listed(unit, second, root))
        print(f"{unit['unit']}: {rows[-1]['problem'] or 'done'}")
    if not rows:
        raise DataError("has no participant with T1w and DWI", file=source, remedy="name another folder")
    write_table(root / PAIRS, rows, PAIR_COLUMNS)
