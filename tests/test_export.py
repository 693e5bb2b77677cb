"""Export of a model: MONAI executes its bundle, onnxruntime gives the output of the network."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import not_here
from line_model import run, write_line
from small_cohort import SHAPE, small_model, train_arguments, write_cohort
from small_families import small

from m2m.io.files import read_json
from m2m.io.tables import write_table
from m2m.models.building import load_network
from m2m.models.catalogue import describe_models
from m2m.models.inference import Slices
from m2m.models.record import load_model
from m2m.options.families.unet import UNet

SUMMARY = ("model", "region", "metric", "mean", "low", "high", "n_subjects")


def needs(*libraries):
    """Skip where a library of the extra `export` is not installed."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            not_here(f"{library} is not installed (pip install '.[export]')")


def small_unet():
    options = {"network": {"features": [4, 4, 4, 4, 4]}, "training": {"steps": 2, "batch_size": 2}}
    return UNet.model_validate(options)


def of_few_steps(family):
    return small(family, training={"steps": 2, "batch_size": 2})


@pytest.mark.parametrize(
    "options",
    [small_model(steps=2), small_unet(), of_few_steps("resvit"), of_few_steps("bridge")],
    ids=lambda o: o.family,
)
def test_onnxruntime_gives_the_output_of_the_network(tmp_path, options):
    needs("onnx", "onnxruntime")
    import onnxruntime

    write_cohort(tmp_path, n_train=2, n_validation=1)
    assert run(*train_arguments(tmp_path, tmp_path, options, options.family)).exit_code == 0
    weights, out = tmp_path / "model.safetensors", tmp_path / "network.onnx"
    result = run("export", "--format", "onnx", "--weights", weights, "--out", out)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["weights"] == read_json(tmp_path / "model.json")["weights"]
    tensors, record = load_model(weights, tmp_path / "model.json")
    network, context = load_network(tensors, record), options.window.context
    # Another number of slices and another size than it was written with.
    for n, size, plane in ((1, (SHAPE[1], SHAPE[0]), 0), (5, (37, 30), 2)):
        source, place = torch.rand(n, context, *size), 50 * torch.randn(n, 3, *size)
        planes = torch.full((n,), plane)
        given = {"source": source, "plane": planes, "position": place}
        names = {i.name for i in session.get_inputs()}
        outputs = [output.name for output in session.get_outputs()]
        found = session.run(outputs, {k: v.numpy() for k, v in given.items() if k in names})
        with torch.inference_mode():
            translation = network(source, planes, place)
        assert outputs == [part for part in Slices._fields if getattr(translation, part) is not None]
        for part, values in zip(outputs, found, strict=True):
            expected = getattr(translation, part).numpy()
            assert np.abs(expected).max() > 1e-3
            assert np.abs(values - expected).max() < 1e-4
    usage = read_json(out.with_suffix(".json"))
    assert usage["weights"] == record["weights"] and usage["spacing_mm"] == record["spacing_mm"]


@pytest.fixture
def bundle(tmp_path):
    """A bundle of the linear model, with the test results of two models."""
    weights = write_line(tmp_path, 0.05, 0.4, shape=[64, 80, 64], t1_range_percent=[1, 99])
    (tmp_path / "card.md").rename(tmp_path / "model_card.md")
    rows = [
        {
            "model": model,
            "region": "brain",
            "metric": "ssim",
            "mean": "0.9121",
            "low": "0.90",
            "high": "0.92",
            "n_subjects": "8",
        }
        for model in ("t1", "other")
    ]
    write_table(tmp_path / "summary.tsv", rows, SUMMARY)
    folder = tmp_path / "bundle"
    result = run(
        "export", "--weights", weights, "--out", folder, "--licence", "CC0", "--summary", tmp_path / "summary.tsv"
    )
    assert result.exit_code == 0, result.output
    return folder


def test_a_bundle_contains_the_card_with_licence_and_intervals(bundle):
    card = (bundle / "docs" / "README.md").read_text()
    assert "Licence of these weights: CC0." in card and "No clinical use" in card
    assert card.count("| brain | ssim | 0.9121 | 0.90 to 0.92 | 8 |") == 1
    metadata = read_json(bundle / "configs" / "metadata.json")
    assert {"version", "monai_version", "pytorch_version", "network_data_format"} <= set(metadata)
    load_model(bundle / "models" / "model.safetensors", bundle / "models" / "model.json")


def test_monai_executes_a_bundle(bundle, tmp_path, monkeypatch):
    from monai.bundle import run as run_bundle

    from m2m.translate import native

    called = []
    monkeypatch.setattr(native, "translate_file", lambda *given: called.append(given))
    run_bundle(
        config_file=str(bundle / "configs" / "inference.json"), bundle_root=str(bundle), t1="t1.nii.gz", out="fa.nii.gz"
    )
    weights = str(bundle / "models" / "model.safetensors")
    assert called == [("t1.nii.gz", weights, "fa.nii.gz", None, "auto", 4)]


def test_the_command_of_monai_reaches_the_translation(bundle, tmp_path):
    needs("fire")
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        bundle / "configs" / "inference.json",
        "--bundle_root",
        bundle,
        "--t1",
        tmp_path / "absent.nii.gz",
        "--out",
        tmp_path / "fa.nii.gz",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert "image is missing" in result.stderr and "absent.nii.gz" in result.stderr


def test_a_model_without_a_network_is_not_written_as_onnx(tmp_path):
    out = tmp_path / "line.onnx"
    result = run("export", "--format", "onnx", "--weights", write_line(tmp_path), "--out", out)
    assert result.exit_code == 1 and "has no network" in result.output and not out.exists()


def test_a_network_of_volumes_is_not_written_as_onnx(tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=1)
    options = small("unet3d", training={"steps": 1, "batch_size": 1})
    assert run(*train_arguments(tmp_path, tmp_path, options, "unet3d")).exit_code == 0
    out = tmp_path / "network.onnx"
    result = run("export", "--format", "onnx", "--weights", tmp_path / "model.safetensors", "--out", out)
    assert result.exit_code == 1 and "windows of 16 slices" in result.output and not out.exists()


def test_models_are_listed_with_their_training_data_and_test_results(tmp_path):
    folder = tmp_path / "results" / "models" / "t1-fa" / "t1"
    folder.mkdir(parents=True)
    write_line(folder)
    write_table(
        tmp_path / "results" / "evaluate" / "t1-fa" / "summary.tsv",
        [
            {
                "model": "t1",
                "region": "brain",
                "metric": "ssim",
                "mean": "0.71",
                "low": "0.5",
                "high": "0.8",
                "n_subjects": "8",
            }
        ],
        SUMMARY,
    )
    (row,) = describe_models(tmp_path / "results")
    assert (row["model"], row["trained on"], row["validation"]) == ("t1", "2 participants", "-")
    assert (row["ssim"], row["psnr"]) == ("0.71 (0.5 to 0.8)", "-")
    result = run("models", "--results", tmp_path / "results")
    assert result.exit_code == 0 and "models/t1-fa/t1/model.safetensors" in result.output
    assert run("models", "--results", tmp_path).exit_code == 1
