"""Weights from elsewhere that a study applies as they are: found, and checked against its grid."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from m2m.io.errors import DataError
from m2m.models.pretrained import weights_of
from m2m.models.record_schema import deformation_options, read_record
from m2m.options import Deformation, section_of
from m2m.options.configured import Written
from m2m.options.downstream_options import DESCRIBED, PRETRAINED, T1


class Given(NamedTuple):
    """Weights of a model from T1 to a map of one value per voxel.

    Attributes
    ----------
    path : Path
        ``model.safetensors``.
    record : dict
        Content of ``model.json``.
    """

    path: Path
    record: dict[str, Any]

    def takes(self, deformation: Deformation) -> bool:
        """Whether the model uses the deformation of the template to each T1, by the options of this section."""
        return section_of(self.record).uses_deformation and deformation_options(self.record) == deformation


def located(weights: str | Path) -> Path:
    """Path of given weights; raises DataError where there are none.

    Parameters
    ----------
    weights : str or Path
        `PRETRAINED`, for those installed with m2m from T1 to FA, or a path.
    """
    path = weights_of(None if weights == PRETRAINED else weights)
    if not path.is_file():
        raise DataError(
            "there are no such weights",
            file=path,
            value=str(weights),
            remedy="give the path of a model.safetensors that `m2m train` wrote",
        )
    return path


def given_weights(weights: Mapping[str, str | Path], spacing_mm: float) -> dict[str, Given]:
    """Find the weights that a section `downstream` names, and check that they fit its study.

    Parameters
    ----------
    weights : mapping of str to (str or Path)
        As in ``downstream.weights``.
    spacing_mm : float
        Of the common grid, in mm.

    Returns
    -------
    dict of str to Given
        By the name of their maps.

    Raises
    ------
    DataError
        Weights or record are missing; or the model is not from a T1 alone to one of `DESCRIBED`, or of another grid.
    """
    found = {}
    for name, value in weights.items():
        path = located(value)
        file = path.with_name("model.json")
        record = read_record(file)
        if record["source"] != T1 or record["target"] not in DESCRIBED or record.get("low_res"):
            raise DataError(
                f"downstream.weights.{name} is not a model from a T1 alone to {', '.join(DESCRIBED)}",
                file=file,
                value=f"{record['source']} to {record['target']}",
                remedy="give the weights of such a model",
            )
        if abs(record["spacing_mm"] / spacing_mm - 1) > 1e-3:
            raise DataError(
                f"downstream.weights.{name} was trained at {record['spacing_mm']:g} mm",
                file=file,
                value=f"anat.spacing_mm: {spacing_mm:g}",
                remedy=f"set anat.spacing_mm: {record['spacing_mm']:g}",
            )
        found[name] = Given(path, record)
    return found


def given_in(written: Written) -> dict[str, Given]:
    """Weights that the workflow's configuration names, as `given_weights`."""
    return given_weights(written.section("downstream").weights, written.section("anat").spacing_mm)


def targets_of(given: Mapping[str, Given]) -> dict[str, str]:
    """Target of each of the given weights."""
    return {name: one.record["target"] for name, one in given.items()}
