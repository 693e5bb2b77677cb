"""Training: the loss falls, a resumed run is bit-identical, and SIGTERM stops it."""

import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from small_cohort import small_model, subject, train_arguments, write_cohort, write_subject
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.models.record import load_model
from m2m.options import Correction, Task
from m2m.structural.template import load_template
from m2m.train import configuration
from m2m.train import loop as loop_module
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import around_brain, template_prior
from m2m.train.dataset import SliceBatches, collate, find_subjects, read_slice
from m2m.train.history import History, read_rows
from m2m.train.launch import make_fabric
from m2m.train.loop import Loop, evenly, fit_network
from m2m.train.stepping import make_reproducible, schedule, scheduled

PIXELS_ONLY = {"l1_low_frequency": 0, "l1_high_frequency": 0, "ms_ssim": 0, "adversarial": 0, "patch_adversarial": 0}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder, and the subjects in it."""
    root = tmp_path_factory.mktemp("cohort")
    parts = write_cohort(root, n_train=3, n_validation=2)
    return root, find_subjects(root / "slices", parts, "t1", "fa")[0]


@pytest.fixture(scope="module")
def fabric():
    """One process on the CPU."""
    return make_fabric(small_model().training)


def fit(cohort, fabric, folder, options=None, name="same"):
    """Train in a folder; return the fit and the checkpoints."""
    checkpoints = Checkpoints(folder, {"configuration": name})
    result = fit_network(fabric, cohort[1], Task(), options or small_model(), checkpoints)
    return result, checkpoints


def flat(value, path=""):
    """All values of nested dictionaries and lists, by path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {path: value}
    return {k: v for key, item in items for k, v in flat(item, f"{path}/{key}").items()}


def assert_same_bits(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys() and len(a) > 1
    for key in a:
        same = torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key]
        assert same, f"{key} differs"


def stop_at(monkeypatch, step):
    """Send SIGTERM to this process when the batch of a step is drawn."""
    draw = SliceBatches.__getitem__

    def drawn(self, index):
        if index == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, index)

    monkeypatch.setattr(SliceBatches, "__getitem__", drawn)


@pytest.fixture(scope="module")
def uninterrupted(cohort, fabric, tmp_path_factory):
    """A run without a stop."""
    return fit(cohort, fabric, tmp_path_factory.mktemp("uninterrupted"))


def test_the_learning_rate_rises_linearly_and_falls_to_zero():
    rates = [schedule(step, steps=1000, warmup=0.1) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 101) and rates[49] == pytest.approx(50 / 101)
    assert max(rates) == rates[100] == 1
    assert rates[550] == pytest.approx(0.5) and rates[1000] == pytest.approx(0)
    assert schedule(0, steps=10, warmup=0) == 1
    own = scheduled(1000, 0.1, start=300, every=6)
    assert [own(n) for n in (0, 50)] == [rates[300], rates[600]]


def test_the_loop_overfits_one_slice(cohort, fabric):
    options = small_model(PIXELS_ONLY, steps=400, batch_size=1, learning_rate=1e-2, jitter=0)
    make_reproducible(1, fabric.device)
    loop = Loop(fabric, options, prior=template_prior(cohort[1]["train"], Task()))
    sample = read_slice(cohort[1]["train"][0], "axial", 12, "t1", "fa", 3)
    batch = collate([sample], "axial", ["sub-00"])
    errors = [float(loop.update(step, batch)["l1"]) for step in range(400)]
    assert errors[-1] < 0.01 < 0.1 < errors[0]
    with torch.no_grad():
        image = loop.ema(batch["source"], batch["plane"], batch["position"]).image
    error = ((image - batch["target"]).abs() * batch["mask"]).sum() / batch["mask"].sum()
    assert error < 0.01


def test_every_network_learns_and_its_gradient_is_recorded(cohort, fabric, uninterrupted):
    row = read_rows(uninterrupted[1].folder / "metrics.jsonl")[0]
    networks = ("generator", "image_discriminator", "patch_discriminator")
    assert all(row[f"grad_norm/{name}"] > 0 for name in networks)
    terms = ("l1", "l1_low_frequency", "l1_high_frequency", "ms_ssim", "adversarial", "patch_adversarial")
    assert all(math.isfinite(row[name]) for name in (*terms, *networks[1:]))
    prior = template_prior(cohort[1]["train"], Task())
    before = Loop(fabric, small_model(), prior=prior).state()
    after = uninterrupted[1].load()
    for side in ("generator", "objective"):
        for name, weight in before[side].items():
            fixed = name.endswith("_extra_state") or "prior" in name
            assert fixed or not torch.equal(weight, after[side][name]), name
            assert "prior" not in name or torch.equal(weight, after[side][name]), name


def test_a_resumed_run_is_bit_identical(cohort, fabric, uninterrupted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(SystemExit) as stopped:
            fit(cohort, fabric, tmp_path)
    assert stopped.value.code == 143
    assert Checkpoints(tmp_path, {"configuration": "same"}).load()["step"] == 3
    resumed, checkpoints = fit(cohort, fabric, tmp_path)
    assert_same_bits(checkpoints.load(), uninterrupted[1].load())
    assert_same_bits(
        {k: torch.from_numpy(v) for k, v in resumed.tensors.items()},
        {k: torch.from_numpy(v) for k, v in uninterrupted[0].tensors.items()},
    )
    assert resumed.best_step == uninterrupted[0].best_step
    values = [
        [[(k, v) for k, v in row.items() if k != "seconds"] for row in read_rows(path)]
        for path in (f.folder / "metrics.jsonl" for f in (checkpoints, uninterrupted[1]))
    ]
    assert values[0] == values[1] and len(values[0]) == 4


def test_the_handler_of_sigterm_is_restored(cohort, fabric, uninterrupted):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_seed_gives_other_weights(cohort, fabric, uninterrupted, tmp_path):
    other, _ = fit(cohort, fabric, tmp_path, small_model(seed=2))
    assert any((other.tensors[name] != uninterrupted[0].tensors[name]).any() for name in other.tensors)


def test_the_newest_two_checkpoints_are_kept(uninterrupted):
    names = [path.name for path in sorted(uninterrupted[1].folder.glob("*.ckpt"))]
    assert names == ["step-00000004.ckpt", "step-00000006.ckpt"]


def test_a_finished_run_trains_no_more(cohort, fabric, uninterrupted, monkeypatch):
    monkeypatch.setattr(Loop, "update", lambda *_: pytest.fail("trained again"))
    again = fit_network(fabric, cohort[1], Task(), small_model(), uninterrupted[1])
    assert again.validation == uninterrupted[0].validation
    assert all((again.tensors[k] == uninterrupted[0].tensors[k]).all() for k in again.tensors)


def test_a_checkpoint_of_another_configuration_is_refused(uninterrupted, tmp_path):
    other = Checkpoints(tmp_path, {"configuration": "other"})
    other.folder.mkdir()
    for path in uninterrupted[1].folder.iterdir():
        if path.is_file():
            (other.folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"another configuration \(other configuration\).*step-"):
        other.load()


def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_the_same_weights(
    cohort, fabric, uninterrupted, tmp_path, capsys
):
    fit(cohort, fabric, tmp_path)
    checkpoints = Checkpoints(tmp_path, {"configuration": "same"})
    newest = checkpoints.folder / "step-00000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    fit(cohort, fabric, tmp_path)
    assert "step-00000006.ckpt is damaged" in capsys.readouterr().err
    assert_same_bits(checkpoints.load(), uninterrupted[1].load())


def test_a_value_that_is_not_finite_stops_with_step_term_and_subject(fabric, tmp_path):
    write_subject(tmp_path, "sub-bad", subject(0))
    array = tmp_path / "sub-bad_axial.npy"
    subjects = find_subjects(tmp_path, {"sub-bad": "train"}, "t1", "fa")[0]
    content = subjects["train"][0].open("axial").inside.copy()
    content[:, 1][content[:, 3] > 0] = float("nan")
    with array.open("wb") as stream:
        np.save(stream, content)
    options = small_model().model_copy(update={"planes": ("axial",)})
    checkpoints = Checkpoints(tmp_path / "training", {})
    with pytest.raises(FloatingPointError, match=r"step 1: .*\bl1 is nan.*sub-bad"):
        fit_network(fabric, subjects, Task(), options, checkpoints)
    assert checkpoints.load() is None


@pytest.mark.parametrize("correction, best", [(None, 1), (Correction(widths=(4, 8)), 2)])
def test_the_weights_of_the_best_step_are_given_or_the_last_where_labels_are_corrected(
    cohort, fabric, tmp_path, monkeypatch, correction, best
):
    values = iter([0.5, 0.2, 0.3])
    weights = []

    def validate(fabric, network, subjects, task, options):
        weights.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(values)

    monkeypatch.setattr(loop_module, "validate", validate)
    options = small_model(validate_every=2).model_copy(update={"correct_labels": correction})
    result, _ = fit(cohort, fabric, tmp_path, options)
    assert result.best_step == 2 * (best + 1)
    assert result.validation["metric"] == "brain_mae" and result.validation["n_subjects"] == 2
    assert all(torch.equal(torch.from_numpy(result.tensors[k]), weights[best][k]) for k in weights[best])
    assert any(not torch.equal(weights[1][k], weights[2][k]) for k in weights[1])


def test_without_validation_the_last_averaged_weights_are_given(cohort, fabric, tmp_path):
    alone = {"train": cohort[1]["train"], "validation": []}
    checkpoints = Checkpoints(tmp_path, {})
    result = fit_network(fabric, alone, Task(), small_model(ema_decay=0), checkpoints)
    assert result.validation is None and result.best_step == 6
    last = checkpoints.load()["generator"]
    assert all(torch.equal(torch.from_numpy(result.tensors[k]), last[k]) for k in last)


def test_the_validation_value_is_the_error_inside_the_mask(cohort, fabric):
    subject = cohort[1]["validation"][0]

    class Constant(torch.nn.Module):
        def forward(self, source, plane, position):
            return type("Image", (), {"image": torch.full_like(source[:, :1], 0.25)})

    found = loop_module.validate(fabric, Constant(), [subject], Task(), small_model())
    measured = subject.volume("fa").data[subject.mask()]
    assert found == pytest.approx(abs(measured - 0.25).mean(), abs=1e-5)


def test_validation_subjects_are_chosen_evenly():
    assert evenly(range(10), 16) == range(10)
    assert list(evenly(range(10), 4)) == [0, 3, 6, 9]
    assert list(evenly([], 4)) == []


def test_bfloat16_computes_in_bfloat16_and_keeps_single_precision_weights(cohort, tmp_path):
    options = small_model(precision="bf16-mixed", steps=2)
    fabric = make_fabric(options.training)
    types = set()
    with torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, y: types.add(y.dtype) if isinstance(module, torch.nn.Conv2d) else None
    ):
        result, _ = fit(cohort, fabric, tmp_path, options)
    assert torch.bfloat16 in types
    assert {str(tensor.dtype) for tensor in result.tensors.values()} == {"float32"}
    assert math.isfinite(result.validation["value"])


def test_history_drops_the_steps_that_a_resumed_run_repeats(tmp_path):
    first = History(tmp_path, 0, 30, active=True)
    for step in (10, 20, 30):
        first.write(step, "train", {"l1": float(step)})
    first.close()
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 40, "cut sho')
    second = History(tmp_path, 20, 30, active=True)
    second.write(30, "train", {"l1": -1.0})
    second.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["l1"]) for row in rows] == [(10, 10), (20, 20), (30, -1)]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_writes_weights_record_card_and_metrics(cohort, tmp_path):
    arguments = train_arguments(cohort[0], tmp_path, small_model())
    assert run(*arguments).exit_code == 0
    tensors, record = load_model(tmp_path / "model.safetensors", tmp_path / "model.json")
    assert record["n_train"] == 3 and record["n_validation"] == 2
    assert record["train_participants"] == ["sub-00", "sub-01", "sub-02"]
    assert record["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert record["shape"] == [25, 28, 24] and record["spacing_mm"] == 6
    assert record["split_hash"] == read_json(cohort[0] / "cohort/split.json")["hash"]
    assert (tmp_path / "training" / record["fingerprint"] / "tensorboard").is_dir()
    card = (tmp_path / "model_card.md").read_text()
    assert "No clinical use" in card and "3 participants" in card and "simulated" not in card
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [
        (1, "train"),
        (3, "validation"),
        (6, "train"),
        (6, "validation"),
    ]
    assert rows[1]["subjects"] == ["sub-03", "sub-04"]
    values = {row["step"]: row["brain_mae"] for row in rows if row["split"] == "validation"}
    assert record["best_step"] == min(values, key=values.get)
    uncertainty = record["uncertainty"]
    assert uncertainty["part"] == "validation" and uncertainty["n_subjects"] == 2
    assert set(uncertainty["nll"]) == {"constant", "views", "predicted"}
    assert uncertainty["nll"][uncertainty["method"]] == min(uncertainty["nll"].values())
    ranges = record["validation_range"]
    assert ranges["brain_overlap"]["n_subjects"] == 5, "training participants, too: nothing of a T1 is fitted"
    assert ranges["mean_sd_views"]["n_subjects"] == ranges["mean_sd_predicted"]["n_subjects"] == 2
    assert 0 < ranges["mean_sd_views"]["low"] <= ranges["mean_sd_views"]["high"]

    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert run(*arguments, "--simulated").exit_code == 0
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == before[name]
    assert "simulated" in (tmp_path / "model_card.md").read_text()


def test_two_runs_from_scratch_give_identical_files(cohort, tmp_path):
    for name in ("a", "b"):
        assert run(*train_arguments(cohort[0], tmp_path / name, small_model(steps=3))).exit_code == 0
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


def test_options_and_data_change_the_fingerprint_but_reading_ahead_does_not(cohort, tmp_path):
    about = {"source": "t1", "target": "fa", "data_hash": "d", "split_hash": "s"}
    about |= {"code_version": "1", "encoder": None}

    def fingerprint(options, **changes):
        return Checkpoints(tmp_path, configuration(about | changes, options)).fingerprint

    same = fingerprint(small_model())
    assert fingerprint(small_model(workers=2, threads=1)) == same
    others = [
        fingerprint(small_model(steps=7)),
        fingerprint(small_model(PIXELS_ONLY)),
        *(fingerprint(small_model(), **{key: "x"}) for key in about),
    ]
    assert len({same, *others}) == 3 + len(about)
    given = [tmp_path / name for name in ("one.nii.gz", "same.nii.gz", "other.nii.gz")]
    for path, content in zip(given, (b"1", b"1", b"2"), strict=True):
        path.write_bytes(content)
    one, again, other = (fingerprint(small_model().model_copy(update={"prior_map": path})) for path in given)
    assert one == again and len({same, one, other}) == 3, "the content of a given map counts, and not its path"


def test_a_cohort_without_training_subjects_is_a_clear_error(tmp_path):
    write_cohort(tmp_path, n_train=0, n_validation=1)
    result = run(*train_arguments(tmp_path, tmp_path, small_model()))
    assert result.exit_code == 1
    assert "no training subject has usable slices (found left out: {'failed': 0" in result.output


def test_subjects_on_different_grids_are_a_clear_error(tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=0)
    write_subject(tmp_path / "slices", "sub-01", subject(1), spacing_mm=5.0)
    result = run(*train_arguments(tmp_path, tmp_path, small_model()))
    assert result.exit_code == 1
    assert "sub-01 and sub-00 differ in spacing_mm (found 5.0, not 6.0)" in result.output


def test_a_prior_covers_the_template_s_brain_and_little_more():
    box = around_brain(3.0)
    brain = load_template("brain", 3.0).data > 0
    assert brain[box].sum() == brain.sum()
    assert np.prod(brain[box].shape) < 0.75 * brain.size
