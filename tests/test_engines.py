"""What runs a network: ONNX Runtime and PyTorch give the same maps, for every family; one is chosen as asked for."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from line_model import UNCERTAINTY, write_line
from safetensors.numpy import load_file
from small_families import TRAINED, small

from m2m import train
from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.models import onnx_engine, onnx_graph
from m2m.models.building import build_network, load_network
from m2m.models.engines import EngineName, engine_of
from m2m.models.inference import translate_volume, views_of
from m2m.models.prerequisites import Synthesis
from m2m.models.record import Fit, load_model, save_model
from m2m.models.torch_engine import torch_engine
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import FAMILIES
from m2m.structural.displacement import template_places
from m2m.translate.packing import write_weights

SHAPE = (21, 26, 23)
TO_MNI = np.array([[7.0, 0.4, 0, -75], [-0.4, 7, 0.3, -95], [0, -0.3, 7, -70], [0, 0, 0, 1]])
FACTOR = 2


def prior(channels):
    """A smooth map on a grid of 12 mm that covers the brain."""
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(channels, 16, 20, 16, generator=generator)
    return TemplateMap(values, torch.linalg.inv(torch.diag(torch.tensor([12.0, 12, 12, 1]))), directed=channels > 1)


def random_network(options, channels=1, synthesis=None):
    """A network whose every weight counts: many begin as zeros."""
    torch.manual_seed(0)
    given = prior(channels) if options.window.prior else None
    network = build_network(options, channels, given, synthesis)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network.eval()


def write_model(folder, family, target="fa", **further):
    """Write a model of a family with random weights; return the path of its weights."""
    section = small(family, **further)
    record = {"task": "t1-fa", "model": family, "family": family, "source": "t1", "target": target}
    record |= {"options": section.model_dump(mode="json"), "spacing_mm": 7.0, "shape": list(SHAPE)}
    record |= {"t1_range_percent": [1, 99], "n_train": 2, "n_validation": 1, "split_hash": "s", "data_hash": "d"}
    record |= {"code_version": "0", "fingerprint": "f", "axes": "grid"}
    channels, synthesis = len(MODALITIES[target].channels), None
    if section.starts_from:
        first = "fgdl-cms"
        synthesis = Synthesis(random_network(small(first)), None, FACTOR)
        kept = ("task", "source", "target", "fingerprint")
        about = {key: record[key] for key in kept} | {"model": first, "family": first, "weights": "0" * 16}
        record["first"] = about | {"options": small(first).model_dump(mode="json")}
        record["low_res"] = {"factor": FACTOR, "source": "map"}
    state = random_network(section, channels, synthesis).state_dict()
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    paths = [folder / name for name in ("model.safetensors", "model.json", "model_card.md")]
    save_model(Fit(tensors, None, UNCERTAINTY), record, *paths)
    return paths[0]


def head():
    """A T1 with an edge, and its low-resolution map."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.9
    noise = np.random.default_rng(2).random((2, *SHAPE))
    return (noise * inside).astype(np.float32)


def maps(weights, engine):
    """Translate the head by an engine, in three orientations and mirrored where the model is."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    t1, low_res = head()
    section = FAMILIES[record["family"]].SECTION.model_validate(record["options"])
    run = engine_of(tensors, record, weights, engine, "cpu")
    views = views_of(section, record["target"])
    low_res = low_res if record.get("low_res") else None
    if section.window.deformed:
        field = 5 * np.sin(np.stack(np.indices(SHAPE), axis=-1) / 4)
        views["places"] = template_places(field, np.eye(4), TO_MNI, MODALITIES[record["target"]].directed)
    return translate_volume(run, t1, TO_MNI, batch_size=5, low_res=low_res, **views)


OF_VOLUMES = [family for family in TRAINED if small(family).stack]
CASES = [(family, {}, "fa") for family in TRAINED if family not in OF_VOLUMES]
WITH_ALL = {"network": {"context": 3, "prior": True, "position": True}}
DEFORMED = {"network": {"widths": [6, 8], "position": True, "deformed": True, "residual": True}}
CASES += [("macro2micro", DEFORMED, target) for target in ("fa", "dti")]
CASES += [("macro2micro", WITH_ALL, "fa"), ("unet", {"network": {"features": [4] * 5, **WITH_ALL["network"]}}, "dti")]


@pytest.mark.parametrize(("family", "further", "target"), CASES, ids=lambda one: one if isinstance(one, str) else "")
def test_onnx_runtime_gives_the_maps_of_pytorch(tmp_path, family, further, target):
    weights = write_model(tmp_path, family, target, **further)
    assert onnx_graph.write_graph(weights, tmp_path / "model.json") == tmp_path / "model.onnx"
    found, expected = (maps(weights, engine) for engine in (EngineName.ONNX, EngineName.TORCH))
    size = max(1.0, np.abs(expected.image).max())
    assert expected.image.std() > 1e-3, "the network does something"
    assert np.abs(found.image - expected.image).max() < 1e-4 * size
    assert found.sds.keys() == expected.sds.keys()
    for name, sd in expected.sds.items():
        assert np.abs(found.sds[name] - sd).max() < 1e-4 * max(1.0, np.abs(sd).max()), name


@pytest.mark.parametrize("family", OF_VOLUMES)
def test_a_network_of_volumes_has_no_graph_and_is_run_by_pytorch(tmp_path, family):
    weights = write_model(tmp_path, family)
    assert onnx_graph.write_graph(weights, tmp_path / "model.json") is None
    assert maps(weights, EngineName.AUTO).image.std() > 1e-3


def test_the_graph_holds_no_weights_and_follows_those_in_half_precision(tmp_path):
    weights = write_model(tmp_path / "full", "unet")
    onnx_graph.write_graph(weights, weights.with_name("model.json"))
    tensors, record = load_model(weights, weights.with_name("model.json"))
    write_weights(tensors, record, "card " + record["weights"], "licence", [], tmp_path / "half")
    half = tmp_path / "half" / "model.safetensors"
    assert half.stat().st_size < 0.8 * weights.stat().st_size
    for path in (weights, half):
        graph = path.with_name("model.onnx").read_bytes()
        largest = max(load_file(path).values(), key=lambda tensor: tensor.size)
        assert largest.tobytes() not in graph and b"model.safetensors" in graph
    found, expected = (maps(half, engine).image for engine in (EngineName.ONNX, EngineName.TORCH))
    assert np.abs(found - expected).max() < 1e-4
    assert 0 < np.abs(expected - maps(weights, EngineName.ONNX).image).max() < 0.05, "half precision was used"


def test_a_graph_of_other_weights_is_refused_and_none_is_no_obstacle(tmp_path):
    weights, other = (write_model(tmp_path / name, "unet", l1=l1) for name, l1 in (("a", 1.0), ("b", 2.0)))
    onnx_graph.write_graph(weights, weights.with_name("model.json"))
    changed = read_json(other.with_name("model.json"))
    content = bytearray(other.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    write_json(other.with_name("model.json"), changed | {"weights": file_digest(other)})
    assert maps(other, EngineName.AUTO).image.any(), "without a graph PyTorch runs it"
    with pytest.raises(DataError, match=r"no network for ONNX Runtime.*--engine torch"):
        maps(other, EngineName.ONNX)
    graph = other.with_name("model.onnx")
    graph.write_bytes(weights.with_name("model.onnx").read_bytes())
    for engine in (EngineName.AUTO, EngineName.ONNX):
        with pytest.raises(DataError, match=r"belongs to other weights.*b/model.onnx"):
            maps(other, engine)
    graph.write_bytes(b"no graph")
    with pytest.raises(DataError, match=r"is no network that ONNX Runtime can run.*b/model.onnx"):
        maps(other, EngineName.AUTO)


def test_a_graph_is_written_only_where_its_values_are_those_of_the_network(tmp_path, monkeypatch):
    weights = write_model(tmp_path, "unet")
    exact = torch_engine

    def off(network, device="cpu"):
        run = exact(network, device)
        return lambda *given: run(*given)._replace(image=run(*given).image + 2e-3)

    onnx_graph.write_graph(weights, tmp_path / "model.json")
    monkeypatch.setattr(onnx_graph, "torch_engine", off)
    with pytest.raises(DataError, match=r"other values than the network \(found 0.00"):
        onnx_graph.write_graph(weights, tmp_path / "model.json")
    assert not (tmp_path / "model.onnx").exists(), "the earlier one is gone"


def test_a_training_keeps_its_model_where_no_graph_can_be_written(tmp_path, monkeypatch, capsys):
    weights = write_model(tmp_path, "unet")
    train._write_graph(weights, tmp_path / "model.json")
    assert (tmp_path / "model.onnx").exists() and not capsys.readouterr().err
    monkeypatch.setattr(onnx_graph, "TOLERANCE", -1.0)
    train._write_graph(weights, tmp_path / "model.json")
    assert "PyTorch will be needed to translate by this model" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists() and maps(weights, EngineName.AUTO).image.any()


def test_a_model_without_a_network_has_no_graph(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"of an earlier model")
    assert onnx_graph.write_graph(write_line(tmp_path), tmp_path / "model.json") is None
    assert not (tmp_path / "model.onnx").exists()


def test_the_device_is_one_of_onnx_runtime_s_or_pytorch_runs_the_network(tmp_path, monkeypatch):
    weights = write_model(tmp_path, "unet")
    onnx_graph.write_graph(weights, tmp_path / "model.json")
    monkeypatch.setattr(onnx_engine, "devices", lambda: ["cpu"])
    tensors, record = load_model(weights, tmp_path / "model.json")
    with pytest.raises(DataError, match="does not have the device here"):
        engine_of(tensors, record, weights, EngineName.ONNX, "cuda")
    with pytest.raises(DataError, match="this machine does not have the device"):
        engine_of(tensors, record, weights, EngineName.AUTO, "tpu")


@pytest.mark.parametrize(("stated", "expected"), [("3", 3), ("2,1", 2), ("", None), ("0", None)])
def test_the_threads_are_those_that_were_stated(monkeypatch, stated, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert onnx_engine._threads() == expected or (expected is None and onnx_engine._threads() >= 1)


def test_a_network_is_loaded_into_the_graph_s_engine_without_pytorch(tmp_path):
    """In a process that cannot import PyTorch, MONAI and onnx."""
    weights = write_model(tmp_path, "unet")
    onnx_graph.write_graph(weights, tmp_path / "model.json")
    np.savez(tmp_path / "head.npz", t1=head()[0], to_mni=TO_MNI)
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "onnx", "lightning_fabric"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
import numpy as np
from m2m.models.engines import engine_of
from m2m.models.inference import translate_volume, views_of
from m2m.models.record import load_model
from m2m.options import section_of
weights, given = Path("model.safetensors").absolute(), np.load("head.npz")
tensors, record = load_model(weights, weights.with_name("model.json"))
views = views_of(section_of(record), "fa")
run = engine_of(tensors, record, weights)
np.save("found.npy", translate_volume(run, given["t1"], given["to_mni"], batch_size=5, **views).image)
try:
    engine_of(tensors, record, weights, "torch")
except ImportError as error:
    print(error.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["torch"], "PyTorch is what is missing"
    assert np.abs(np.load(tmp_path / "found.npy") - maps(weights, EngineName.TORCH).image).max() < 1e-4


def test_weights_of_the_graph_are_those_of_the_file(tmp_path):
    """A graph reads the file that is beside it, not what the network had when it was written."""
    weights = write_model(tmp_path, "unet")
    onnx_graph.write_graph(weights, tmp_path / "model.json")
    tensors, record = load_model(weights, tmp_path / "model.json")
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    content = weights.read_bytes()
    weights.write_bytes(content[:header] + bytes(len(content) - header))
    run = onnx_engine.onnx_engine(tmp_path / "model.onnx", weights, record, "cpu")
    slices = onnx_graph.example(record, 2, 0)
    assert not run(*slices).image.any()
    assert torch_engine(load_network(tensors, record))(*slices).image.any()
