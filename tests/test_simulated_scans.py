"""Training slices as another scan of another head: what is changed, and what is not."""

import numpy as np
import pytest
from pydantic import ValidationError
from small_cohort import write_cohort

from m2m.options import FAMILIES, Config
from m2m.options.training_options import Augmentation
from m2m.train.augmentation import simulate_scan, smooth_field
from m2m.train.dataset import SliceBatches, find_subjects

SHAPE = (30, 40)


@pytest.fixture
def sample(rng):
    """A slice whose target is its source, inside a disc."""
    rows, columns = np.indices(SHAPE)
    brain = ((rows - 15) ** 2 + (columns - 20) ** 2 < 144).astype(np.float32)
    image = (brain * (0.2 + 0.6 * np.indices(SHAPE)[1] / SHAPE[1])).astype(np.float32)
    return {
        "source": np.stack([image] * 3),
        "target": image[None],
        "mask": brain[None],
        "brain": brain[None],
        "position": rng.normal(size=(3, *SHAPE)).astype(np.float32),
    }


def test_without_options_nothing_changes(sample, rng):
    found = simulate_scan(sample, Augmentation(), rng, True)
    assert all(found[name] is sample[name] for name in sample)


def test_source_and_target_are_displaced_together_against_the_template(sample, rng):
    found = simulate_scan(sample, Augmentation(deform_px=2), rng, True)
    np.testing.assert_allclose(found["source"][1], found["target"][0])
    assert np.abs(found["target"] - sample["target"]).mean() > 0.005
    assert found["position"] is sample["position"]
    assert set(np.unique(found["mask"])) == {0, 1} and np.array_equal(found["mask"], found["brain"])


@pytest.mark.parametrize("option", ["tone", "bias", "noise", "blur_px"])
def test_another_scanner_changes_the_t1_inside_the_brain_alone(sample, rng, option):
    options = Augmentation.model_validate({option: 1.0 if option == "blur_px" else 0.3})
    found = simulate_scan(sample, options, rng, True)
    inside = sample["brain"][0] > 0
    assert np.abs(found["source"] - sample["source"])[:, inside].max() > 0.01
    assert not found["source"][:, ~inside].any() and found["target"] is sample["target"]
    assert simulate_scan(sample, options, rng, False)["source"] is sample["source"]


def test_a_tone_curve_keeps_the_order_of_tissues_and_the_ends_of_the_scale(rng):
    values = np.linspace(0, 1, 1200).reshape(1, *SHAPE).astype(np.float32)
    one = {"source": values}
    found = simulate_scan(one, Augmentation(tone=0.5), rng, True)["source"].ravel()
    assert (np.diff(found) > 0).all() and found[0] == 0 and found[-1] == pytest.approx(1)
    assert np.abs(found - values.ravel()).max() > 0.03


def test_a_smooth_field_has_the_standard_deviation_of_1(rng):
    fields = np.stack([smooth_field(rng, SHAPE) for _ in range(300)])
    assert 0.6 < fields.std() < 1.1
    assert np.abs(np.diff(fields, axis=1)).mean() < 0.15


def batches(root, **further):
    subjects, _ = find_subjects(root / "slices", {"sub-00": "train", "sub-01": "train"}, "t1", "fa")
    options = {"context": 3, "planes": ("axial",), "batch_size": 4, "seed": 1, "augment": Augmentation(bias=0.2)}
    return SliceBatches(subjects["train"], "t1", "fa", **options | further)


def test_draws_depend_on_step_and_slice_and_not_on_the_number_of_processes(tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=0)
    one, again = batches(tmp_path)[5], batches(tmp_path)[5]
    assert np.array_equal(one["source"], again["source"])
    second = batches(tmp_path, rank=1, world=2)[5]
    assert np.array_equal(second["source"], one["source"][1::2])
    plain = batches(tmp_path, augment=Augmentation())[5]
    ratios = (one["source"] / plain["source"].clip(0.05)).flatten(1).mean(1)
    assert len(set(ratios.tolist())) == 4


def test_what_cannot_be_deformed_is_refused():
    model = {"family": "unet", "training": {"augment": {"deform_px": 1}}}
    tasks = {"t1-dti": {"target": "dti", "models": ["net"]}}
    with pytest.raises(ValidationError, match="omit them for tensors"):
        Config.model_validate({"dataset": "d", "models": {"net": model}, "tasks": tasks})
    with pytest.raises(ValidationError, match="correct_labels needs"):
        FAMILIES["unet"].SECTION.model_validate(model | {"correct_labels": True})
    with pytest.raises(ValidationError, match="atlas_share needs"):
        FAMILIES["unet"].SECTION.model_validate({"atlas_share": 0.5})
    with pytest.raises(ValidationError, match="prior_map needs"):
        FAMILIES["unet"].SECTION.model_validate({"prior_map": "fa.nii.gz"})
    given = {"family": "unet", "network": {"prior": True}, "prior_map": "fa.nii.gz"}
    with pytest.raises(ValidationError, match="alternatives: a network keeps its prior"):
        FAMILIES["unet"].SECTION.model_validate(given | {"training": {"start_from": "pretrained"}})
    for network in ({"deformed": True}, {"prior": True, "deformed": True}):
        with pytest.raises(ValidationError, match="deformed needs"):
            FAMILIES["unet"].SECTION.model_validate(model | {"network": network})
    with pytest.raises(ValidationError, match="residual needs"):
        FAMILIES["macro2micro"].SECTION.model_validate({"network": {"prior": False, "residual": True}})
    with pytest.raises(ValidationError, match="prior_map is a scalar map"):
        Config.model_validate({"dataset": "d", "models": {"net": given}, "tasks": tasks})


def test_options_that_are_off_change_no_fingerprint():
    written = FAMILIES["unet"].SECTION().model_dump(mode="json")
    assert "augment" not in written["training"] and not {"atlas_share", "prior_map", "mse"} & written.keys()
    written = FAMILIES["macro2micro"].SECTION().model_dump(mode="json")
    assert not {"deformed", "residual"} & written["network"].keys()
