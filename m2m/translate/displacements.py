"""Displacements from a T1 to the template, for the models that use them: of the workflow, or computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume
from m2m.models.record_schema import deformation_options
from m2m.options import section_of
from m2m.structural.displacement import load_displacement

if TYPE_CHECKING:
    from m2m.structural.deformation import Deformed


def deformed_template(image: Volume, brain: Volume, to_mni: NDArray, record: Mapping[str, Any]) -> "Deformed":
    """Deform the template to a T1 on the common grid, with the options that a model records, or the default ones."""
    # Imported here: it takes longer than other models need.
    from m2m.structural.deformation import deform

    return deform(image, brain, to_mni, deformation_options(record))


def displacement_of(
    image: Volume, brain: Volume, to_mni: NDArray, record: Mapping[str, Any], path: Path | None = None
) -> NDArray[np.floating] | None:
    """Displacements of a subject, where the model uses them: from a file, or by registration as in the workflow.

    Parameters
    ----------
    image, brain : Volume
        Source and brain mask on the common grid.
    to_mni : ndarray, shape (4, 4)
        From world mm to MNI152 mm.
    record : mapping
        Of the model; it holds the options of the registration.
    path : Path or None
        File of `m2m deform`.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3), or None

    Raises
    ------
    DataError
        The file is no such field; or there is none, and the source is not a T1.
    """
    if not section_of(record).uses_deformation:
        return None
    if path is not None:
        return load_displacement(path, brain).data
    if (source := MODALITIES[record["source"]]).nature != "weighted":
        raise DataError(
            f"the model {record['model']} deforms a template to the T1, and the source is {source.title}",
            remedy="translate it in the workflow, which has the deformation of the T1",
        )
    return deformed_template(image, brain, to_mni, record).forward
