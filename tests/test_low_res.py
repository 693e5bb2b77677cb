"""A map at low resolution: simulated, an input of training with the T1, enlarged, and refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import AFFINE, SHAPE, subject, train_arguments, write_cohort
from test_translate import run, write_grid_participant, write_line

from m2m.diffusion.lowres import crop_kspace, enlarge, low_res_grid
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume, load, save
from m2m.objectives.scoring import centre
from m2m.options import Config
from m2m.structural.low_res import reduce_resolution, simulate_unit
from m2m.structural.slices import PLANES
from m2m.train.augmentation import mirror
from m2m.train.dataset import SliceBatches, collate, find_subjects, read_slice
from m2m.translate.native import require_model_of_t1
from m2m.translate.predict import Network, load_low_res, predict_file


def simulate_low_res(root, unit, fa, brain, factor=2):
    """Run the stage `simulate-low-res` on a map of the common grid."""
    map_path, brain_path = root / f"{unit}_fa.nii.gz", root / f"{unit}_brain.nii.gz"
    save(map_path, Volume(fa, AFFINE))
    save(brain_path, Volume(brain, AFFINE), dtype=np.uint8)
    grid = root / f"{unit}_grid.json"
    write_json(grid, {"status": "ok", "excluded": [], "t1_to_dwi": np.eye(4).tolist()})
    out = root / "low_res" / unit
    slices = {plane: Path(f"{out}_{plane}.npy") for plane in PLANES}
    simulate_unit(
        unit,
        factor,
        map_path,
        brain_path,
        brain_path,
        [grid],
        grid,
        Path(f"{out}_low_res.nii.gz"),
        Path(f"{out}_slices.json"),
        **slices,
    )


def write_lower_cohort(root):
    """Folder of a small cohort; returns parts, and subjects with maps at half the resolution."""
    parts = write_cohort(root, n_train=2, n_validation=1)
    for seed, unit in enumerate(parts):
        _, fa, brain, _ = subject(seed)
        simulate_low_res(root, unit, fa, brain > 0)
    return parts, find_subjects(root / "slices", parts, "t1", "fa", root / "low_res", 2)[0]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    return root, *write_lower_cohort(root)


def test_the_low_resolution_is_the_centre_of_the_map_s_k_space(cohort):
    root, _, subjects = cohort
    _, fa, brain, _ = subject(0)
    low = load(root / "low_res/sub-00_low_res.nii.gz")
    affine, shape = low_res_grid(AFFINE, SHAPE, 2)
    assert low.shape == shape
    np.testing.assert_allclose(low.affine, affine)
    expected = crop_kspace(Volume(fa * (brain > 0), AFFINE), 2).data.clip(0, 1)
    np.testing.assert_allclose(low.data, expected, atol=1e-5)
    enlarged = enlarge(low, Volume(fa, AFFINE), 2).data * (brain > 0)
    np.testing.assert_allclose(subjects["train"][0].low_res_volume(), enlarged, atol=1e-3)


def test_a_series_on_its_own_grid_is_resampled_by_the_registration():
    affine, shape = low_res_grid(AFFINE, SHAPE, 2)
    shift = np.eye(4)
    shift[:3, 3] = (12, -12, 0)
    fa = np.random.default_rng(0).random(shape).astype(np.float32)
    series, mask = Volume(fa, shift @ affine), Volume(np.ones(shape), shift @ affine)
    like = Volume(np.ones(SHAPE), AFFINE)
    low = reduce_resolution(series, mask, like, shift, 2)
    np.testing.assert_allclose(low.affine, affine)
    np.testing.assert_allclose(low.data, fa, atol=1e-5)
    far = np.eye(4)
    far[0, 3] = 1000
    with pytest.raises(DataError, match="does not overlap the T1's field of view"):
        reduce_resolution(series, mask, like, far, 2)


def test_the_low_resolution_is_the_source_s_last_channel_and_is_mirrored_with_it(cohort):
    subject = cohort[2]["train"][0]
    for plane in PLANES:
        sample = read_slice(subject, plane, 12, "t1", "fa", 3)
        batch = collate([sample], plane, [subject.unit])
        assert batch["source"].shape[1] == 4
        low = subject.open_low_res(plane).read(12, 13, [0])[0, 0]
        assert low.any() and torch.equal(batch["source"][0, 3], torch.from_numpy(low))
        assert torch.equal(centre(batch), batch["source"][:, 1:2])
        mirrored = collate([mirror(sample, plane)], plane, [subject.unit])["source"]
        side = () if plane == "sagittal" else (-1,)
        assert torch.equal(mirrored[0, 3], batch["source"][0, 3].flip(side))
        first = batch["source"][0, 0 if side else 2].flip(side)
        assert torch.equal(mirrored[0, 0], first)


def test_intensities_of_the_low_resolution_are_not_jittered(cohort):
    def batch(jitter):
        batches = SliceBatches(
            cohort[2]["train"], "t1", "fa", context=1, planes=PLANES, batch_size=2, seed=1, jitter=jitter, flip=False
        )
        return batches[0]["source"]

    assert torch.equal(batch(0.0)[:, 1], batch(0.5)[:, 1])
    assert not torch.equal(batch(0.0)[:, 0], batch(0.5)[:, 0])


def test_the_data_s_hash_is_of_both(cohort):
    root, parts, subjects = cohort
    alone, _ = find_subjects(root / "slices", parts, "t1", "fa")
    assert alone["train"][0].record["sha256"] != subjects["train"][0].record["sha256"]
    path = root / "low_res/sub-00_slices.json"
    record = read_json(path)
    write_json(path, record | {"status": "failed"})
    left, skipped = find_subjects(root / "slices", parts, "t1", "fa", root / "low_res", 2)
    write_json(path, record)
    assert skipped["incomplete"] == 1 and len(left["train"]) == 1


def test_slices_of_another_factor_are_refused_with_both_grids(cohort):
    root, parts, _ = cohort
    with pytest.raises(DataError) as caught:
        find_subjects(root / "slices", parts, "t1", "fa", root / "low_res", 4)
    text = str(caught.value)
    assert caught.value.file == str(root / "low_res/sub-00_slices.json")
    for factor, mm in ((2, 12), (4, 24)):
        _, shape = low_res_grid(AFFINE, SHAPE, factor)
        size = f"{' x '.join(map(str, shape))} voxels of {mm} x {mm} x {mm} mm"
        assert f"factor {factor}, {size}" in text


def upsampled_arguments(root, out):
    """Call of `m2m train` for the enlarged map, but for the folder of its slices."""
    arguments = train_arguments(root, out, '{"family": "upsampled"}', "upsampled")
    arguments[arguments.index("--task-options") + 1] = (
        Config.model_validate(CONFIG).tasks["sr"].model_dump_json(include={"source", "target", "low_res"})
    )
    return arguments


def test_a_task_with_a_low_resolution_is_not_trained_without_its_slices(cohort, tmp_path):
    result = run(*upsampled_arguments(cohort[0], tmp_path))
    assert result.exit_code == 2 and "--low-res-dir is for a task with low" in result.output


def test_the_enlarged_map_is_a_model_of_its_own(cohort, tmp_path):
    root = cohort[0]
    assert run(*upsampled_arguments(root, tmp_path), "--low-res-dir", root / "low_res").exit_code == 0
    record = read_json(tmp_path / "model.json")
    assert record["low_res"] == {"factor": 2, "source": "map"}
    _, fa, brain, _ = subject(2)
    error = np.abs(cohort[2]["validation"][0].low_res_volume() - fa)[brain > 0].mean()
    assert record["validation"]["value"] == pytest.approx(error, abs=1e-3)


def test_a_model_with_a_low_resolution_input_names_what_is_missing(tmp_path):
    t1 = Volume(np.random.default_rng(0).random(SHAPE).astype(np.float32), AFFINE)
    brain = np.ones(SHAPE, bool)
    source, mask, status = write_grid_participant(tmp_path, t1, brain)
    write_line(tmp_path, family="upsampled", low_res={"factor": 2, "source": "dwi"}, spacing_mm=6.0)
    record = read_json(tmp_path / "model.json")
    files = source, mask, status, {}, record, Network()
    with pytest.raises(DataError, match="give --low-res, a map with voxels of 2 times the grid's"):
        predict_file(*files)
    with pytest.raises(DataError, match="needs a low-resolution map as well as the T1"):
        require_model_of_t1(record)
    with pytest.raises(DataError, match="a low-resolution map is not an input of the model"):
        predict_file(source, mask, status, {}, record | {"low_res": None}, Network(), source)
    wrong = tmp_path / "wrong.nii.gz"
    save(wrong, crop_kspace(t1, 4))
    with pytest.raises(DataError, match="factor of 2") as caught:
        predict_file(*files, wrong)
    assert caught.value.file == str(wrong)
    for data, problem in ((100 * t1.data, "is not an FA map"), (np.stack([t1.data, t1.data], axis=-1), "is not on")):
        save(wrong, crop_kspace(Volume(data, AFFINE), 2))
        with pytest.raises(DataError, match=problem):
            predict_file(*files, wrong)
    right = tmp_path / "right.nii.gz"
    save(right, crop_kspace(t1, 2))
    found = predict_file(*files, right).image
    np.testing.assert_allclose(found.data, load_low_res(right, Volume(brain, AFFINE), 2).data, atol=1e-6)


CONFIG = {
    "dataset": "tiny",
    "models": {
        "mean": {"family": "mean"},
        "upsampled": {"family": "upsampled"},
        "u": {"family": "unet"},
    },
    "tasks": {
        "cms": {"models": ["mean", "u"], "page": "fgdl"},
        "sr": {
            "models": ["upsampled", "mean"],
            "page": "fgdl",
            "low_res": {"factor": 2, "source": "map", "synthesis_task": "cms", "baselines": ["mean"]},
        },
    },
}


def with_task(**changes):
    tasks = {"cms": CONFIG["tasks"]["cms"], "sr": CONFIG["tasks"]["sr"] | changes}
    return Config.model_validate(CONFIG | {"tasks": tasks})


def test_baselines_without_a_low_resolution_are_those_of_the_other_task():
    config = with_task()
    assert config.tasks["sr"].training_task("sr", "mean") == "cms"
    assert config.tasks["sr"].training_task("sr", "upsampled") == "sr"
    assert list(config.low_resolutions) == ["map-2"]
    assert "low_res" not in config.tasks["cms"].model_dump_json()
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_res": None}, "upsampled needs a task with low_res"),
        ({"models": ["upsampled", "u"]}, "u has no low-resolution input: name it in low_res.baselines"),
        ({"low_res": {"synthesis_task": "nothing", "baselines": ["mean"]}}, "must name a task without low_res"),
        ({"page": "report"}, "on the report page of cms"),
        ({"target": "tdi"}, "low_res is for t1 to fa"),
        ({"low_res": {"synthesis_task": "cms", "baselines": ["mean", "u"]}}, r"\['u'\] is not in both tasks"),
    ],
)
def test_a_low_resolution_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        with_task(**changes)
