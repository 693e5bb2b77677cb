"""The map in template space that is a network's prior: given, or the mean map; on its own voxels."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_cohort import small_model, write_cohort

from m2m.evaluate.metrics import pearson
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, blur_to, resample, save
from m2m.models.reference_map import PRIOR, TO_VOXEL, reference_map
from m2m.options import Task
from m2m.options.families.macro2micro import Macro2Micro
from m2m.structural.template import load_template
from m2m.train.closed_form import template_prior
from m2m.train.dataset import find_subjects
from m2m.train.loop import prior_of_training


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Training participants."""
    root = tmp_path_factory.mktemp("cohort")
    parts = write_cohort(root, n_train=3, n_validation=2)
    return find_subjects(root / "slices", parts, "t1", "fa")[0]["train"]


def test_a_given_map_is_the_prior_in_place_of_the_mean(subjects, tmp_path):
    brain = load_template("brain", 2.0)
    path = tmp_path / "fa.nii.gz"
    save(path, Volume(np.where(brain.data > 0, 0.4, 0).astype(np.float32), brain.affine))
    options = small_model().model_copy(update={"prior_map": path})
    given = prior_of_training(subjects, Task(), options, None, None)
    mean = template_prior(subjects, Task())
    assert torch.equal(given.to_voxel, mean.to_voxel) and given.values.shape == mean.values.shape
    assert float(given.values.max()) == pytest.approx(MODALITIES["fa"].scale(0.4), abs=1e-3)


def test_a_coarser_prior_has_the_same_values_at_the_same_places(subjects):
    coarse = small_model().model_copy(update={"prior_spacing_mm": 2 * subjects[0].record["spacing_mm"]})
    maps = [prior_of_training(subjects, Task(), options, None, None) for options in (small_model(), coarse)]
    fine, half = ({PRIOR: one.values.numpy(), TO_VOXEL: one.to_voxel.numpy()} for one in maps)
    assert half[PRIOR].size < 0.2 * fine[PRIOR].size
    mean, found = (reference_map(one) for one in (fine, half))
    expected = resample(blur_to(mean, coarse.prior_spacing_mm), found.affine, found.shape).data
    inside = resample(load_template("brain", 2.0), found.affine, found.shape).data > 0.9
    shifts = [(0, 0), *((step, axis) for step in (-1, 1) for axis in range(3))]
    first, *others = (pearson(np.roll(found.data, *shift)[inside], expected[inside]) for shift in shifts)
    assert first > 0.9 and first > max(others) + 0.1, "not a voxel off"
    with pytest.raises(ValidationError, match=r"prior_spacing_mm needs network\.prior"):
        Macro2Micro(network={"prior": False}, prior_spacing_mm=4.0)
