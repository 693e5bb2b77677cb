"""Scaled images of every participant on the common grid; synthetic ones are cross-fitted, or by given weights.

A participant's cross-fitted map comes from the network of the fold that was not trained on this
participant. This is checked for every participant against the records of the networks. Given weights
were trained elsewhere, and are the same for all participants.
"""

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from m2m.cohort.quality import outcome_of_t1
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import require_ok
from m2m.models.given_weights import given_in, targets_of
from m2m.models.reference_map import given_map
from m2m.options.configured import Written, described_images
from m2m.structural.displacement import load_displacement
from m2m.structural.slices import normalise
from m2m.structural.template import load_template


class Source(BaseModel):
    """Files of one image of every participant.

    Attributes
    ----------
    modality : str
        Modality, e.g. fa.
    map : str
        Path with {folder}, {unit} and, for cross-fitted maps, {fold}.
    record : str or None
        model.json of the network of each fold, with {fold}; None for images that are not cross-fitted.
    given : bool
        Whether it is made from the T1 by given weights.
    template : bool
        Whether `map` is one map in MNI152 space, which is deformed to each participant's T1.
    resampled : bool
        Whether it is resampled from another grid: the ground truth of simulated participants has the
        DWI's voxels.
    """

    modality: str
    map: str
    record: str | None = None
    given: bool = False
    template: bool = False
    resampled: bool = False

    @property
    def measured(self) -> bool:
        """Whether it is made from the DWI, and not from the T1."""
        return not (self.record or self.given or self.template)


def sources_of(written: Written, root: Path) -> dict[str, Source]:
    """List the source of every image from which features are computed, by name."""
    section = written.section("downstream")
    targets = targets_of(given_in(written))
    images = described_images(section, written.task, root, written.simulated, targets)
    sources = {name: Source.model_validate(image) for name, image in images.items()}
    for source in sources.values():
        if source.template:  # loaded here, since an error in it is not one of a participant
            map_on_template(Path(source.map), written.section("anat").spacing_mm, source.modality)
    return sources


def require_unseen(sources: Mapping[str, Source], fold_of: Mapping[str, str]) -> None:
    """Refuse a cross-fitted network that was trained or validated on a participant whose map it predicts.

    Parameters
    ----------
    sources : mapping of str to Source
    fold_of : mapping of str to str
        Fold of each participant.

    Raises
    ------
    ValueError
        Names the network and the participants.
    """
    for name, source in sources.items():
        if source.record is None:
            continue
        for fold in sorted(set(fold_of.values())):
            record = read_json(source.record.format(fold=fold))
            known = {*record["train_participants"], *record["validation_participants"]}
            if both := sorted(subject for subject in known if fold_of.get(subject) == fold):
                raise ValueError(
                    f"{name}: the network of fold {fold} was trained or validated on participants of "
                    f"this fold: {', '.join(both)}; train it again on the current split"
                )


class UnitImages:
    """Images of one unit.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    unit : mapping
        Row of units.tsv.
    fold : str
        Fold of the participant.
    t1_range_percent : (float, float)
        Option of the section `slices`.

    Attributes
    ----------
    brain : Volume
        Brain mask of the T1.
    """

    def __init__(self, root: Path, unit: Mapping[str, str], fold: str, t1_range_percent: tuple[float, float]):
        self.root, self.folder, self.unit, self.fold = root, unit["folder"], unit["unit"], fold
        self.range = t1_range_percent
        self.brain = volume.load(self._path("brain"))

    def _path(self, kind: str) -> Path:
        """Path of one of its files."""
        return Path(unit_path(self.root, kind, self.folder, self.unit))

    @cached_property
    def covered(self) -> NDArray[np.bool_]:
        """Voxels measured by the DWI, shape (X, Y, Z)."""
        return in_mask(volume.load(self._path("target-mask")).data)

    @property
    def brain_ml(self) -> float:
        """Volume of the brain, ml."""
        return float(in_mask(self.brain.data).sum() * np.prod(self.brain.spacing_mm) / 1000)

    def image(self, name: str, source: Source) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Load the scaled values of an image and the voxels in which they are valid.

        Measured maps are valid where the DWI measured. T1, and maps predicted from it, are valid in
        the T1's brain: the DWI's mask would carry information about the DWI.

        Parameters
        ----------
        name : str
            Name of the image, for messages.
        source : Source

        Returns
        -------
        values : ndarray, shape (X, Y, Z)
        inside : ndarray of bool, shape (X, Y, Z)

        Raises
        ------
        DataError
            The file is missing, broken or on another grid.
        """
        modality, inside = MODALITIES[source.modality], in_mask(self.brain.data)
        if source.template:
            return self.deformed(source), inside
        path = source.map.format(folder=self.folder, unit=self.unit, fold=self.fold)
        image = volume.load(path)
        if source.resampled:
            image = volume.resample(image, self.brain.affine, self.brain.shape)
        volume.require_same_grid(self.brain, image, f"{self.unit}, brain and {name}")
        if modality.nature == "weighted":
            return normalise(image.data, inside, self.range)[0], inside
        if source.measured:
            inside = self.covered
        return modality.scale(image.data), inside

    def deformed(self, source: Source) -> NDArray[np.float32]:
        """Deform a map in MNI152 space to the T1, scaled, shape (X, Y, Z); DataError where that failed."""
        require_ok(self._path("deform-status"))
        world = np.array(read_json(self._path("anat-status"))["grid_to_mni"])
        displacement = load_displacement(self._path("deformation"), self.brain)
        template = map_on_template(Path(source.map), round(float(self.brain.spacing_mm[0]), 3), source.modality)
        return volume.resample(template, self.brain.affine, self.brain.shape, world, 1, displacement.data).data


@cache
def map_on_template(path: Path, spacing_mm: float, modality: str) -> volume.Volume:
    """Load a map in MNI152 space, scaled, on the grid of the template."""
    affine = load_template("brain", spacing_mm).affine
    return volume.Volume(given_map(path, spacing_mm, MODALITIES[modality]), affine)


def used_units(
    units: Iterable[Mapping[str, str | None]], quality: Iterable[Mapping[str, str | None]]
) -> list[dict[str, str]]:
    """Select units with both scans that neither failed nor are excluded; rows as of `unit_row`."""
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [unit_row(row) for row in units if row["state"] == "paired" and row["unit"] in used]


def units_with_t1(units: Iterable[dict[str, str | None]], root: Path) -> list[dict[str, str]]:
    """Select units whose T1 neither failed nor is excluded, whatever their DWI; rows as of `unit_row`."""
    return [unit_row(row) for row in units if outcome_of_t1(dict(row), root)[0] == "used"]


def unit_row(row: Mapping[str, str | None]) -> dict[str, str]:
    """Take unit, folder and participant_id, which no row of units.tsv lacks."""
    return {key: row[key] or "" for key in ("unit", "folder", "participant_id")}
