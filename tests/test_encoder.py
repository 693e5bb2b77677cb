"""The encoder of the perceptual term: trained on training participants only, or read from a file."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import small_model, train_arguments, write_cohort
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.networks.feature_encoder import SliceEncoder, Vgg19Features
from m2m.options import Encoder, Perceptual
from m2m.structural.slices import PLANES
from m2m.train.dataset import SliceBatches, find_subjects
from m2m.train.encoder import load_encoder, train_encoder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of a small cohort, and the part of each participant."""
    root = tmp_path_factory.mktemp("cohort")
    return root, write_cohort(root, n_train=2, n_validation=1)


def encoder_arguments(root, out, **options):
    section = Encoder(widths=(4, 6), steps=3, batch_size=2, **options)
    return ["encoder", "--target", "fa", "--root", str(root), "--out", str(out), "--options", section.model_dump_json()]


def run(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_encoder_is_trained_on_the_training_part_only_and_reproducibly(cohort, tmp_path):
    root, parts = cohort
    for name in "ab":
        (tmp_path / name).mkdir()
        assert run(*encoder_arguments(root, tmp_path / name)).exit_code == 0
    a, b = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in "ab")
    assert a == b
    record = read_json(tmp_path / "a" / "encoder.json")
    trained = {name for name, part in parts.items() if part == "train"}
    assert set(record["train_participants"]) == trained


def test_the_encoder_is_trained_in_a_batch_job_of_several_tasks(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert run(*encoder_arguments(cohort[0], tmp_path)).exit_code == 0


def test_the_autoencoder_learns_to_denoise(cohort, capsys):
    root, parts = cohort
    subjects = find_subjects(root / "slices", parts, "fa", "fa")[0]["train"]
    batches = SliceBatches(subjects, "fa", "fa", context=1, planes=PLANES, batch_size=4, seed=1)
    errors = {}
    for steps in (1, 200):
        torch.manual_seed(0)
        options = Encoder(widths=(8, 12), steps=steps, learning_rate=1e-2)
        train_encoder(batches, options, "cpu", 1)
        errors[steps] = float(re.search(r"error ([0-9.]+) after", capsys.readouterr().out)[1])
    assert errors[200] < 0.5 * errors[1]


def test_a_model_with_a_perceptual_loss_is_another_model(cohort, tmp_path):
    root, _ = cohort
    assert run(*encoder_arguments(root, tmp_path)).exit_code == 0
    options = small_model(steps=2).model_copy(update={"perceptual": Perceptual(network="self")})
    fingerprints = {}
    for name, chosen in {"with": options, "without": small_model(steps=2)}.items():
        (tmp_path / name).mkdir()
        arguments = train_arguments(root, tmp_path / name, chosen)
        arguments += ["--encoder", str(tmp_path / "encoder.safetensors")]
        assert run(*arguments).exit_code == 0
        fingerprints[name] = read_json(tmp_path / name / "model.json")["fingerprint"]
    assert fingerprints["with"] != fingerprints["without"]
    terms = (tmp_path / "with" / "metrics.jsonl").read_text()
    assert '"perceptual"' in terms
    assert '"perceptual"' not in (tmp_path / "without" / "metrics.jsonl").read_text()


def test_the_workflow_s_encoder_is_loaded_as_saved(cohort, tmp_path):
    assert run(*encoder_arguments(cohort[0], tmp_path)).exit_code == 0
    found = load_encoder(Perceptual(network="self"), 1, tmp_path / "encoder.safetensors")
    assert isinstance(found, SliceEncoder)
    assert [f.shape[1] for f in found(torch.rand(1, 1, 8, 8))] == [4, 6]


def test_vgg19_is_read_from_the_users_file(tmp_path):
    torch.manual_seed(0)
    weights = Vgg19Features().state_dict()
    # torchvision's file has the classifier, and convolutions beyond those that are used.
    torch.save(weights | {"classifier.0.weight": torch.ones(2)}, tmp_path / "vgg19.pth")
    found = load_encoder(Perceptual(network="vgg19", weights=tmp_path / "vgg19.pth"), 1, None)
    assert torch.equal(found.state_dict()["features.28.bias"], weights["features.28.bias"])


def test_a_missing_or_foreign_file_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="weights cannot be read"):
        load_encoder(Perceptual(network="vgg19", weights=tmp_path / "no.pth"), 1, None)
    torch.save({"layer1.weight": torch.ones(2)}, tmp_path / "resnet.pth")
    with pytest.raises(DataError, match="not torchvision's VGG19"):
        load_encoder(Perceptual(network="vgg19", weights=tmp_path / "resnet.pth"), 1, None)
    np.save(tmp_path / "code.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "code.npy").rename(tmp_path / "code.pth")
    with pytest.raises(DataError, match="weights cannot be read"):
        load_encoder(Perceptual(network="vgg19", weights=tmp_path / "code.pth"), 1, None)
    with pytest.raises(DataError, match="m2m encoder"):
        load_encoder(Perceptual(network="self"), 1, None)


class Code:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_that_contain_code_are_refused_and_it_does_not_run(tmp_path):
    weights, made = tmp_path / "vgg19.pth", tmp_path / "made"
    writers = (
        lambda: torch.save({"features.0.weight": Code(made)}, weights),
        lambda: weights.write_bytes(pickle.dumps(Code(made), protocol=2)),
    )
    for write in writers:
        write()
        with pytest.raises(DataError, match="weights cannot be read"):
            load_encoder(Perceptual(network="vgg19", weights=weights), 1, None)
        assert not made.exists()


def test_vgg19_without_a_path_is_refused_by_its_options():
    with pytest.raises(ValueError, match=r"perceptual\.weights"):
        Perceptual(network="vgg19")


def test_without_a_network_there_is_no_encoder():
    assert load_encoder(Perceptual(), 1, None) is None
