"""Everybody's images on the common grid, scaled; synthetic ones from networks that saw others.

A person's synthetic map comes from the one network of the folds that never saw this person. That is
checked here, for everybody, against the networks' own records.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.options.configured import Written, described_images
from m2m.structural.slices import normalise


class Source(BaseModel):
    """Where one image of everybody is.

    Attributes
    ----------
    modality : str
        What it is, e.g. fa.
    map : str
        Path with {folder}, {unit} and, of synthetic maps, {fold}.
    record : str or None
        model.json of the network of each fold, with {fold}; None: not made by a network.
    resampled : bool
        Whether it lies on a grid of its own: the truth of simulated people, at the DWI's voxels.
    """

    modality: str
    map: str
    record: str | None = None
    resampled: bool = False


def sources_of(written: Written, root: Path) -> dict[str, Source]:
    """Every image that is described, by its name."""
    section = written.section("downstream")
    images = described_images(section, written.task, root, written.simulated)
    return {name: Source.model_validate(image) for name, image in images.items()}


def require_unseen(sources: Mapping[str, Source], fold_of: Mapping[str, str]) -> None:
    """Refuse a cross-fitted network that saw a person whom it is to translate.

    Parameters
    ----------
    sources : mapping of str to Source
    fold_of : mapping of str to str
        Participant to fold.

    Raises
    ------
    ValueError
        Names the network and the people.
    """
    for name, source in sources.items():
        for fold in sorted(set(fold_of.values())) if source.record else ():
            record = read_json(source.record.format(fold=fold))
            seen = {*record["train_participants"], *record["validation_participants"]}
            if both := sorted(person for person in seen if fold_of.get(person) == fold):
                raise ValueError(
                    f"{name}: the network of fold {fold} was trained or chosen with its own "
                    f"people {', '.join(both)}; train it again on the current split"
                )


class Head:
    """One unit's images.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    unit : mapping
        Row of units.tsv.
    fold : str
        Of the participant.
    t1_range_percent : (float, float)
        Of the section `slices`.

    Attributes
    ----------
    brain : Volume
        The T1's brain mask.
    covered : ndarray of bool, shape (X, Y, Z)
        Where the DWI measured.
    """

    def __init__(
        self, root: Path, unit: Mapping[str, str], fold: str, t1_range_percent: tuple[float, float]
    ):
        self.folder, self.unit, self.fold = unit["folder"], unit["unit"], fold
        self.range = t1_range_percent
        self.brain = volume.load(unit_path(root, "brain", self.folder, self.unit))
        self.covered = volume.load(unit_path(root, "target-mask", self.folder, self.unit)).data > 0

    @property
    def brain_ml(self) -> float:
        """Volume of the brain."""
        return float((self.brain.data > 0).sum() * np.prod(self.brain.spacing_mm) / 1000)

    def image(self, name: str, source: Source) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scaled values of an image and the voxels where it says something.

        What was measured says something where the DWI was; T1, and what was made of it, in the
        T1's brain: the DWI's mask would tell of the DWI.

        Parameters
        ----------
        name : str
            For messages.
        source : Source

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
        inside = self.brain.data > 0
        modality = MODALITIES[source.modality]
        if modality.nature == "weighted":
            return normalise(image.data, inside, self.range)[0], inside
        if source.record is None:
            inside = self.covered
        return modality.scale(image.data), inside


def used_units(
    units: Iterable[Mapping[str, str]], quality: Iterable[Mapping[str, str]]
) -> list[Mapping[str, str]]:
    """Units with both scans that neither failed nor are excluded."""
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [row for row in units if row["state"] == "paired" and row["unit"] in used]
