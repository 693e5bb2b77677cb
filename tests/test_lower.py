"""A map at low resolution: made, learned from beside the T1, enlarged, and refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import AFFINE, SHAPE, person, train_arguments, write_cohort
from test_translate import run, write_grid_person, write_line

from m2m.diffusion.lowres import crop_kspace, enlarge, low_grid
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume, load, save
from m2m.objectives.judging import centre
from m2m.options import Config
from m2m.structural.lower import lower, lower_unit
from m2m.structural.slices import PLANES
from m2m.train.dataset import SliceBatches, collate, find_subjects, mirror, read_slice
from m2m.translate.native import require_model_of_t1
from m2m.translate.predict import Network, load_low, predict_file

TASK = {"source": "t1", "target": "fa", "low": {"ratio": 2, "of": "map", "after": "cms"}}


def lower_a_map(root, unit, fa, brain, ratio=2):
    """Run the stage `lower` on a map of the common grid."""
    map_path, brain_path = root / f"{unit}_fa.nii.gz", root / f"{unit}_brain.nii.gz"
    save(map_path, Volume(fa, AFFINE))
    save(brain_path, Volume(brain, AFFINE), dtype=np.uint8)
    grid = root / f"{unit}_grid.json"
    write_json(grid, {"status": "ok", "excluded": [], "t1_to_dwi": np.eye(4).tolist()})
    out = root / "low" / unit
    slices = {plane: Path(f"{out}_{plane}.npy") for plane in PLANES}
    lower_unit(
        unit, ratio, map_path, brain_path, brain_path, [grid], grid, Path(f"{out}_low.nii.gz"),
        Path(f"{out}_slices.json"), **slices,
    )  # fmt: skip


def write_lower_cohort(root):
    """Folder of a small cohort; returns parts, and subjects with maps at half the resolution."""
    parts = write_cohort(root, n_train=2, n_validation=1)
    for seed, unit in enumerate(parts):
        _, fa, brain, _ = person(seed)
        lower_a_map(root, unit, fa, brain > 0)
    return parts, find_subjects(root / "slices", parts, "t1", "fa", root / "low", 2)[0]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    return root, *write_lower_cohort(root)


def test_the_low_resolution_is_the_middle_of_the_map_s_k_space(cohort):
    root, _, subjects = cohort
    _, fa, brain, _ = person(0)
    low = load(root / "low/sub-00_low.nii.gz")
    affine, shape = low_grid(AFFINE, SHAPE, 2)
    assert low.shape == shape
    np.testing.assert_allclose(low.affine, affine)
    expected = crop_kspace(Volume(fa * (brain > 0), AFFINE), 2).data.clip(0, 1)
    np.testing.assert_allclose(low.data, expected, atol=1e-5)
    enlarged = enlarge(low, Volume(fa, AFFINE), 2).data * (brain > 0)
    np.testing.assert_allclose(subjects["train"][0].low_volume(), enlarged, atol=1e-3)


def test_a_series_of_its_own_grid_is_carried_by_the_registration():
    affine, shape = low_grid(AFFINE, SHAPE, 2)
    shift = np.eye(4)
    shift[:3, 3] = (12, -12, 0)
    fa = np.random.default_rng(0).random(shape).astype(np.float32)
    series, mask = Volume(fa, shift @ affine), Volume(np.ones(shape), shift @ affine)
    like = Volume(np.ones(SHAPE), AFFINE)
    low = lower(series, mask, like, shift, 2)
    np.testing.assert_allclose(low.affine, affine)
    np.testing.assert_allclose(low.data, fa, atol=1e-5)
    far = np.eye(4)
    far[0, 3] = 1000
    with pytest.raises(DataError, match="does not meet the T1's field of view"):
        lower(series, mask, like, far, 2)


def test_the_low_resolution_is_the_source_s_last_channel_and_turns_with_the_person(cohort):
    subject = cohort[2]["train"][0]
    for plane in PLANES:
        sample = read_slice(subject, plane, 12, "t1", "fa", 3)
        batch = collate([sample], plane, [subject.unit])
        assert batch["source"].shape[1] == 4
        low = subject.open_low(plane)[12, 0].astype(np.float32)
        assert low.any() and torch.equal(batch["source"][0, 3], torch.from_numpy(low))
        assert torch.equal(centre(batch), batch["source"][:, 1:2])
        turned = collate([mirror(sample, plane)], plane, [subject.unit])["source"]
        side = () if plane == "sagittal" else (-1,)
        assert torch.equal(turned[0, 3], batch["source"][0, 3].flip(side))
        first = batch["source"][0, 0 if side else 2].flip(side)
        assert torch.equal(turned[0, 0], first)


def test_intensities_of_the_low_resolution_are_not_jittered(cohort):
    def batch(jitter):
        batches = SliceBatches(
            cohort[2]["train"], "t1", "fa", context=1, planes=PLANES, batch_size=2, seed=1,
            jitter=jitter, flip=False,
        )  # fmt: skip
        return batches[0]["source"]

    assert torch.equal(batch(0.0)[:, 1], batch(0.5)[:, 1])
    assert not torch.equal(batch(0.0)[:, 0], batch(0.5)[:, 0])


def test_the_data_s_hash_is_of_both(cohort):
    root, parts, subjects = cohort
    alone, _ = find_subjects(root / "slices", parts, "t1", "fa")
    assert alone["train"][0].record["sha256"] != subjects["train"][0].record["sha256"]
    path = root / "low/sub-00_slices.json"
    record = read_json(path)
    write_json(path, record | {"status": "failed"})
    left, skipped = find_subjects(root / "slices", parts, "t1", "fa", root / "low", 2)
    write_json(path, record)
    assert skipped["incomplete"] == 1 and len(left["train"]) == 1


def test_slices_of_another_ratio_are_refused_with_both_grids(cohort):
    root, parts, _ = cohort
    with pytest.raises(DataError) as caught:
        find_subjects(root / "slices", parts, "t1", "fa", root / "low", 4)
    text = str(caught.value)
    assert caught.value.file == str(root / "low/sub-00_slices.json")
    for ratio, mm in ((2, 12), (4, 24)):
        _, shape = low_grid(AFFINE, SHAPE, ratio)
        size = f"{' x '.join(map(str, shape))} voxels of {mm} x {mm} x {mm} mm"
        assert f"ratio of {ratio}, {size}" in text or f"of ratio {ratio}, {size}" in text


def upsampled_arguments(root, out):
    """Call of `m2m train` for the enlarged map, but for the folder of its slices."""
    arguments = train_arguments(root, out, '{"family": "upsampled"}', "upsampled")
    arguments[arguments.index("--task-options") + 1] = (
        Config.model_validate(CONFIG)
        .tasks["sr"]
        .model_dump_json(include={"source", "target", "low"})
    )
    return arguments


def test_a_task_with_a_low_resolution_is_not_trained_without_its_slices(cohort, tmp_path):
    result = run(*upsampled_arguments(cohort[0], tmp_path))
    assert result.exit_code == 2 and "--low-dir is for a task with low" in result.output


def test_the_enlarged_map_is_a_model_of_its_own(cohort, tmp_path):
    root = cohort[0]
    assert run(*upsampled_arguments(root, tmp_path), "--low-dir", root / "low").exit_code == 0
    record = read_json(tmp_path / "model.json")
    assert record["low"] == {"ratio": 2, "of": "map"}
    _, fa, brain, _ = person(2)
    error = np.abs(cohort[2]["validation"][0].low_volume() - fa)[brain > 0].mean()
    assert record["validation"]["value"] == pytest.approx(error, abs=1e-3)


def test_a_model_that_sees_a_low_resolution_says_what_it_lacks(tmp_path):
    t1 = Volume(np.random.default_rng(0).random(SHAPE).astype(np.float32), AFFINE)
    brain = np.ones(SHAPE, bool)
    source, mask, status = write_grid_person(tmp_path, t1, brain)
    write_line(tmp_path, family="upsampled", low={"ratio": 2, "of": "dwi"}, spacing_mm=6.0)
    record = read_json(tmp_path / "model.json")
    files = source, mask, status, {}, record, Network()
    with pytest.raises(DataError, match="give --low, a map with voxels of 2 times the grid's"):
        predict_file(*files)
    with pytest.raises(DataError, match="sees a low-resolution map beside the T1"):
        require_model_of_t1(record)
    with pytest.raises(DataError, match="the model sees no low-resolution map"):
        predict_file(source, mask, status, {}, record | {"low": None}, Network(), source)
    wrong = tmp_path / "wrong.nii.gz"
    save(wrong, crop_kspace(t1, 4))
    with pytest.raises(DataError, match="ratio of 2") as caught:
        predict_file(*files, wrong)
    assert caught.value.file == str(wrong)
    for data, problem in ((100 * t1.data, "is no FA map"), (t1.data[..., None], "is not on")):
        save(wrong, crop_kspace(Volume(data, AFFINE), 2))
        with pytest.raises(DataError, match=problem):
            predict_file(*files, wrong)
    right = tmp_path / "right.nii.gz"
    save(right, crop_kspace(t1, 2))
    found = predict_file(*files, right).image
    np.testing.assert_allclose(
        found.data, load_low(right, Volume(brain, AFFINE), 2).data, atol=1e-6
    )


CONFIG = {
    "dataset": "tiny",
    "models": {
        "mean": {"family": "mean"}, "upsampled": {"family": "upsampled"}, "u": {"family": "unet"},
    },
    "tasks": {
        "cms": {"models": ["mean", "u"], "study": "fgdl"},
        "sr": {
            "models": ["upsampled", "mean"], "study": "fgdl",
            "low": {"ratio": 2, "of": "map", "after": "cms", "beside": ["mean"]},
        },
    },
}  # fmt: skip


def with_task(**changes):
    tasks = {"cms": CONFIG["tasks"]["cms"], "sr": CONFIG["tasks"]["sr"] | changes}
    return Config.model_validate(CONFIG | {"tasks": tasks})


def test_models_beside_a_low_resolution_are_those_of_the_task_without():
    config = with_task()
    assert config.tasks["sr"].home("sr", "mean") == "cms"
    assert config.tasks["sr"].home("sr", "upsampled") == "sr"
    assert list(config.lows) == ["map-2"]
    assert "low" not in config.tasks["cms"].model_dump_json()
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": None}, "upsampled needs a task with low"),
        ({"models": ["upsampled", "u"]}, "u does not see a low resolution: name it in low.beside"),
        ({"low": {"after": "nothing", "beside": ["mean"]}}, "must name a task without low"),
        ({"study": "report"}, "like cms's study"),
        ({"target": "tdi"}, "low is of t1 to fa"),
        ({"low": {"after": "cms", "beside": ["mean", "u"]}}, r"\['u'\] is not in both tasks"),
    ],
)
def test_a_low_resolution_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        with_task(**changes)
