"""Scaled images of every participant on the common grid; synthetic ones are cross-fitted.

A participant's synthetic map comes from the network of the fold that was not trained on this
participant. This is checked for every participant against the records of the networks.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.options.configured import Written, described_images
from m2m.structural.slices import normalise


class Source(BaseModel):
    """Files of one image of every participant.

    Attributes
    ----------
    modality : str
        Modality, e.g. fa.
    map : str
        Path with {folder}, {unit} and, for synthetic maps, {fold}.
    record : str or None
        model.json of the network of each fold, with {fold}; None for images not made by a network.
    resampled : bool
        Whether it is resampled from another grid: the ground truth of simulated participants has the
        DWI's voxels.
    """

    modality: str
    map: str
    record: str | None = None
    resampled: bool = False


def sources_of(written: Written, root: Path) -> dict[str, Source]:
    """List the source of every image from which features are computed, by name."""
    section = written.section("downstream")
    images = described_images(section, written.task, root, written.simulated)
    return {name: Source.model_validate(image) for name, image in images.items()}


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
    covered : ndarray of bool, shape (X, Y, Z)
        Voxels measured by the DWI.
    """

    def __init__(self, root: Path, unit: Mapping[str, str], fold: str, t1_range_percent: tuple[float, float]):
        self.folder, self.unit, self.fold = unit["folder"], unit["unit"], fold
        self.range = t1_range_percent
        self.brain = volume.load(unit_path(root, "brain", self.folder, self.unit))
        self.covered = in_mask(volume.load(unit_path(root, "target-mask", self.folder, self.unit)).data)

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
        path = source.map.format(folder=self.folder, unit=self.unit, fold=self.fold)
        image = volume.load(path)
        if source.resampled:
            image = volume.resample(image, self.brain.affine, self.brain.shape)
        volume.require_same_grid(self.brain, image, f"{self.unit}, brain and {name}")
        inside = in_mask(self.brain.data)
        modality = MODALITIES[source.modality]
        if modality.nature == "weighted":
            return normalise(image.data, inside, self.range)[0], inside
        if source.record is None:
            inside = self.covered
        return modality.scale(image.data), inside


def used_units(
    units: Iterable[Mapping[str, str | None]], quality: Iterable[Mapping[str, str | None]]
) -> list[dict[str, str]]:
    """Select units with both scans that neither failed nor are excluded; rows as of `unit_row`."""
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [unit_row(row) for row in units if row["state"] == "paired" and row["unit"] in used]


def unit_row(row: Mapping[str, str | None]) -> dict[str, str]:
    """Take unit, folder and participant_id, which no row of units.tsv lacks."""
    return {key: row[key] or "" for key in ("unit", "folder", "participant_id")}
