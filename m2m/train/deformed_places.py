"""Places of training participants' voxels in the template by its deformation, memory-mapped as slices are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.files import whole
from m2m.structural.displacement import template_places
from m2m.train.closed_form import displacement_of
from m2m.train.dataset import Subject
from m2m.train.validation import to_mni


def with_places(
    subjects: Mapping[str, Sequence[Subject]], directed: bool, root: Path, folder: Path
) -> dict[str, list[Subject]]:
    """Subjects whose positions follow the deformation of the template to their T1.

    Parameters
    ----------
    subjects : mapping
        Subjects by part.
    directed : bool
        As in `m2m.structural.displacement.template_places`.
    root : Path
        Dataset of the results, with the deformations.
    folder : Path
        For the files of the places: they are made when a participant is first drawn.

    Returns
    -------
    dict
    """
    return {
        part: [replace(one, deformed=partial(_mapped, one, directed, root, folder)) for one in of_part]
        for part, of_part in subjects.items()
    }


def _mapped(subject: Subject, directed: bool, root: Path, folder: Path) -> NDArray[np.float32]:
    """Memory-map a subject's places, and make their file where there is none."""
    path = folder / f"{subject.unit}_places.npy"
    if not path.exists():
        field = displacement_of(subject, "deformation", root)
        with whole(path) as temporary:
            np.save(temporary, template_places(field.data, field.affine, to_mni(subject), directed))
    return np.load(path, mmap_mode="r")
