"""Fine-tuning: a training that starts from the weights of a trained model."""

import re
import shutil

import numpy as np
import pytest
import torch
from small_cohort import small_model, train_arguments, write_cohort
from small_families import ALONE, small
from test_superres import SMALL, resolver, synthesis
from test_train import assert_same_bits, stop_at
from test_workflow_tasks import Study, wildcards
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.models import pretrained
from m2m.models.pretrained import starting_weights
from m2m.models.record import load_model, save_weights
from m2m.models.record_schema import read_record
from m2m.options.families.fgdl_sr import FgdlSr
from m2m.train.fine_tuning import fitted
from m2m.train.history import read_rows

STILL = {"steps": 1, "validate_every": 1, "learning_rate": 1e-12}


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def trained(cohort, out, options, family="macro2micro"):
    result = run(*train_arguments(cohort, out, options, family))
    assert result.exit_code == 0, result.output
    return load_model(out / "model.safetensors", out / "model.json"), result.output


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Folders of two cohorts, and weights that were trained on the first."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    write_cohort(first, n_train=3, n_validation=1)
    write_cohort(second, n_train=2, n_validation=1)
    trained(first, first / "model", small_model())
    return first, second, first / "model" / "model.safetensors"


def installed(monkeypatch, folder, weights, name="t1-fa", **changes):
    """Install weights below a folder, as a wheel does."""
    where = folder / name
    shutil.copytree(weights.parent, where, ignore=shutil.ignore_patterns("training"))
    write_json(where / "model.json", read_json(where / "model.json") | changes)
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return where / "model.safetensors"


@pytest.mark.parametrize("family", ALONE)
def test_every_network_starts_from_the_weights_of_its_family(family, cohorts, tmp_path):
    training = {"batch_size": 4, "threads": 1, **STILL}
    (start, _), _ = trained(cohorts[0], tmp_path / "a", small(family, training=training | {"seed": 7}), family)
    given = small(family, training=training | {"start_from": tmp_path / "a/model.safetensors"})
    (tensors, record), _ = trained(cohorts[1], tmp_path / "b", given, family)
    (fresh, _), _ = trained(cohorts[1], tmp_path / "c", small(family, training=training), family)
    assert tensors.keys() == start.keys()
    assert record["started_from"]["not_taken"] == {} and record["started_from"]["n_taken"] > 0
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor, start[name], atol=1e-6)
    assert any((fresh[name] != start[name]).any() for name in start)


def test_the_prior_is_that_of_the_start_and_not_of_the_new_participants(cohorts, tmp_path):
    _, second, weights = cohorts
    start, _ = load_model(weights, weights.with_name("model.json"))
    (tuned, _), _ = trained(second, tmp_path / "a", small_model(**STILL, start_from=weights))
    (fresh, _), _ = trained(second, tmp_path / "b", small_model(**STILL))
    name = "inputs.prior.values"
    assert (tuned[name] == start[name]).all() and (fresh[name] != start[name]).any()


def test_the_record_names_the_start_by_its_hash_and_no_folder(cohorts, tmp_path):
    _, second, weights = cohorts
    trained(second, tmp_path / "a", small_model(**STILL, start_from=weights))
    record = read_record(tmp_path / "a" / "model.json")
    assert record["started_from"]["weights"] == read_json(weights.with_name("model.json"))["weights"]
    assert record["started_from"]["model"] == "macro2micro" and record["started_from"]["spacing_mm"] == 6
    assert str(weights.parent) not in (tmp_path / "a" / "model.json").read_text()
    assert "Started from the weights" in (tmp_path / "a" / "model_card.md").read_text()


def test_layers_that_do_not_fit_are_named(cohorts, tmp_path):
    _, second, weights = cohorts
    options = small_model(**STILL, start_from=weights)
    network = options.network.model_copy(update={"prior": False})
    (tensors, record), output = trained(second, tmp_path, options.model_copy(update={"network": network}))
    not_taken = record["started_from"]["not_taken"]
    assert not_taken.pop("inputs.prior") == "not in this network"
    assert set(not_taken.values()) == {"other shape"} and 0 < len(not_taken) < 4
    start, _ = load_model(weights, weights.with_name("model.json"))
    for layer in not_taken:
        assert f"{layer} (other shape)" in output
        assert tensors[f"{layer}.weight"].shape != start[f"{layer}.weight"].shape
    same = [n for n in tensors if n.rpartition(".")[0] not in not_taken]
    assert all(np.allclose(tensors[n], start[n], atol=1e-6) for n in same)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target": "md"}, "have another target .*md, not fa"),
        ({"source": "fa"}, "have another source .*fa, not t1"),
        ({"family": "unet"}, "have another family .*unet, not macro2micro"),
    ],
)
def test_weights_that_do_something_else_are_refused(cohorts, tmp_path, change, message):
    _, second, weights = cohorts
    other = tmp_path / "other"
    shutil.copytree(weights.parent, other, ignore=shutil.ignore_patterns("training"))
    record = read_json(other / "model.json") | change
    write_json(other / "model.json", record | ({"options": {}} if "family" in change else {}))
    result = run(*train_arguments(second, tmp_path, small_model(start_from=other / "model.safetensors")))
    assert result.exit_code == 1
    assert re.search(message, result.output), result.output


def test_weights_of_which_nothing_fits_are_refused(cohorts, tmp_path):
    _, second, weights = cohorts
    options = small_model(start_from=weights)
    network = options.network.model_copy(update={"widths": (10, 14, 16)})
    result = run(*train_arguments(second, tmp_path, options.model_copy(update={"network": network})))
    assert result.exit_code == 1 and "no layer, or hardly any, fits" in result.output
    assert "(other shape)" in result.output and "'widths': [6, 8]" in result.output


def test_another_spacing_is_a_note(cohorts, tmp_path):
    _, second, weights = cohorts
    coarse = tmp_path / "coarse"
    shutil.copytree(weights.parent, coarse, ignore=shutil.ignore_patterns("training"))
    write_json(coarse / "model.json", read_json(coarse / "model.json") | {"spacing_mm": 3.0})
    _, output = trained(second, tmp_path, small_model(**STILL, start_from=coarse / "model.safetensors"))
    assert "note: its spacing_mm was 3.0, here it is 6.0" in output


def test_a_resumed_fine_tuning_is_bit_identical(cohorts, tmp_path, monkeypatch):
    _, second, weights = cohorts
    options = small_model(start_from=weights)
    (whole, record), _ = trained(second, tmp_path / "whole", options)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert run(*train_arguments(second, tmp_path / "stopped", options)).exit_code == 143
    (resumed, again), _ = trained(second, tmp_path / "stopped", options)
    assert_same_bits(*({n: torch.from_numpy(t) for n, t in one.items()} for one in (whole, resumed)))
    assert record == again
    steps = [[r["step"] for r in read_rows(tmp_path / n / "metrics.jsonl")] for n in ("whole", "stopped")]
    assert steps[0] == steps[1] == [0, 1, 3, 6, 6]


def test_where_training_makes_it_worse_the_start_is_exported(cohorts, tmp_path):
    _, second, weights = cohorts
    start, _ = load_model(weights, weights.with_name("model.json"))
    (tensors, record), _ = trained(second, tmp_path, small_model(start_from=weights, learning_rate=50.0))
    assert record["best_step"] == 0
    assert all((tensors[name] == start[name]).all() for name in start)


def test_other_weights_train_again_and_the_same_ones_elsewhere_do_not(cohorts, tmp_path):
    _, second, weights = cohorts
    copied = shutil.copytree(weights.parent, tmp_path / "copied") / "model.safetensors"
    other = shutil.copytree(weights.parent, tmp_path / "other") / "model.safetensors"
    tensors, record = load_model(other, other.with_name("model.json"))
    save_weights({n: t * np.float32(1.01) for n, t in tensors.items()}, other)
    write_json(other.with_name("model.json"), record | {"weights": file_digest(other)})
    prints = [
        trained(second, tmp_path / name, small_model(**STILL, start_from=path))[0][1]["fingerprint"]
        for name, path in (("a", weights), ("b", copied), ("c", other))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_weights_in_half_precision_are_trained_in_single(cohorts, tmp_path, monkeypatch):
    _, second, weights = cohorts
    half = shutil.copytree(weights.parent, tmp_path / "half") / "model.safetensors"
    tensors, record = load_model(half, half.with_name("model.json"))
    save_weights({n: t.astype(np.float16) for n, t in tensors.items()}, half)
    write_json(half.with_name("model.json"), record | {"weights": file_digest(half)})
    (tuned, _), _ = trained(second, tmp_path, small_model(**STILL, start_from=half))
    assert {t.dtype for t in tuned.values()} == {np.dtype(np.float32)}
    assert all(np.allclose(tuned[n], tensors[n], atol=1e-2, rtol=1e-2) for n in tensors)


def test_the_frozen_synthesis_of_a_super_resolution_is_not_taken():
    options, network = FgdlSr.model_validate(SMALL), resolver()
    tensors = {n: t.numpy() for n, t in network.state_dict().items() if not n.startswith("synthesis.")}
    start = fitted(tensors, options, "fa", synthesis())
    assert start.tensors.keys() == tensors.keys() and start.entry["not_taken"] == {}


def test_installed_weights_are_found_by_source_and_target(cohorts, tmp_path, monkeypatch):
    _, second, weights = cohorts
    found = installed(monkeypatch, tmp_path / "weights", weights)
    assert starting_weights("pretrained", "t1", "fa", "unet") == found
    assert starting_weights("pretrained", "t1", "fa", "macro2micro") == found
    with pytest.raises(DataError, match=r"no weights from t1 to md are installed.*t1-fa"):
        starting_weights("pretrained", "t1", "md", "macro2micro")
    (_, record), _ = trained(second, tmp_path, small_model(**STILL, start_from="pretrained"))
    assert record["started_from"]["weights"] == read_json(found.with_name("model.json"))["weights"]
    assert record["options"]["training"]["start_from"] == "pretrained"


def test_installed_weights_of_the_same_family_come_first(cohorts, tmp_path, monkeypatch):
    weights = cohorts[2]
    installed(monkeypatch, tmp_path / "weights", weights, "a", family="unet")
    own = installed(monkeypatch, tmp_path / "weights", weights, "b")
    assert starting_weights("pretrained", "t1", "fa", "macro2micro") == own


def test_a_plan_without_the_installed_weights_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    study = Study(models={"own": {"family": "unet", "training": {"start_from": "pretrained"}}})
    with pytest.raises(DataError, match=r"no weights from t1 to fa are installed \(found none\)"):
        study.fitting.given_files(wildcards(task="t1-fa", model="own"))


def test_starting_weights_are_inputs_of_training(cohorts, tmp_path, monkeypatch):
    found = installed(monkeypatch, tmp_path / "weights", cohorts[2])
    models = {
        "path": {"family": "unet", "training": {"start_from": "own/model.safetensors"}},
        "pretrained": {"family": "macro2micro", "training": {"start_from": "pretrained"}},
        "macro2micro": {},
    }
    study = Study(models=models)
    given = {name: study.fitting.given_files(wildcards(task="t1-fa", model=name)) for name in models}
    assert given == {"path": ["own/model.safetensors"], "pretrained": [str(found)], "macro2micro": []}
