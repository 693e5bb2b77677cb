"""Weights that are installed with m2m: packed in half precision, found by name, used where none are given."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from cohort_tree import dataset
from line_model import run, write_line
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_cohort import small_model, train_arguments, write_cohort

from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.qc import Panel, draw
from m2m.io.tables import write_table
from m2m.io.volume import Volume, load, same_grid, save
from m2m.models import pretrained
from m2m.models.baselines import predict_mean_map
from m2m.models.catalogue import describe_installed
from m2m.models.onnx_engine import onnx_engine
from m2m.models.onnx_graph import example
from m2m.models.record import load_model, load_weights
from m2m.options import section_of
from m2m.structural.template import load_template
from m2m.translate import native, packing
from m2m.translate.outputs import default_outputs, map_named_after

SENTENCE = "pretrained on templates, not on measured diffusion: FA shows what anatomy implies, not individual tissue"
SUMMARY = ("model", "region", "metric", "mean", "low", "high", "n_subjects")
FA = "space-T1w_desc-synth_model-tensor_param-fa_dwimap"


def packed(weights, out, *further):
    """Pack a model as its maker does."""
    flags = ("--licence", "CC BY-SA 4.0", "--trained-on", SENTENCE, *further)
    return run("export", "--format", "weights", "--weights", weights, "--out", out, *flags)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network as trained, and a folder in which it is packed."""
    folder = tmp_path_factory.mktemp("trained")
    write_cohort(folder, n_train=2, n_validation=1, shape=(32, 40, 32))
    assert run(*train_arguments(folder, folder, small_model(steps=2))).exit_code == 0
    rows = [dict(zip(SUMMARY, ("macro2micro", "brain", "ssim", "0.71", None, None, "3"), strict=True))]
    write_table(folder / "summary.tsv", rows, SUMMARY)
    (folder / "notes.md").write_text("| scanner | r |\n|---|---|\n| other | .6 |\n")
    tests = ("--summary", folder / "summary.tsv", "--notes", folder / "notes.md")
    result = packed(folder / "model.safetensors", folder / "weights" / "t1-fa", *tests)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def standin(trained, monkeypatch):
    """Folder of the installed weights."""
    monkeypatch.setattr(pretrained, "FOLDER", trained / "weights")
    return trained / "weights" / "t1-fa"


@pytest.fixture
def t1(tmp_path, monkeypatch):
    """A T1 with a BIDS name, beside the current folder."""
    template = load_template("t1", 3.0)
    path = tmp_path / "scans" / "sub-01_acq-fast_T1w.nii.gz"
    save(path, Volume(1000 * template.data, template.affine))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return path


def test_weights_are_packed_in_half_precision_with_record_card_and_licence(trained, standin):
    full, half = load_file(trained / "model.safetensors"), load_file(standin / "model.safetensors")
    assert full.keys() == half.keys()
    for name, tensor in half.items():
        large = tensor.size > packing.FEW
        assert tensor.dtype == (np.float16 if large else full[name].dtype), name
        assert np.allclose(tensor, full[name], rtol=1e-3, atol=1e-6)
    tensors, record = load_model(standin / "model.safetensors", standin / "model.json")
    assert {tensor.dtype for tensor in tensors.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
    digest, before = file_digest(standin / "model.safetensors"), read_json(trained / "model.json")["weights"]
    assert record["weights"] == digest != before
    assert (record["trained_on"], record["licence"]) == (SENTENCE, "CC BY-SA 4.0")
    assert "sub-" not in (standin / "model.json").read_text()
    card = (standin / "model_card.md").read_text()
    assert SENTENCE[1:] in card and "Licence of these weights: CC BY-SA 4.0." in card and "| other | .6 |" in card
    assert digest in card and before not in card and "| brain | ssim | 0.71 | n/a | 3 |" in card
    licence = (standin / "LICENSE").read_text()
    assert "CC BY-SA 4.0" in licence and SENTENCE[1:] in licence


def test_a_t1_alone_is_enough_and_half_precision_changes_fa_by_less_than_a_thousandth(trained, standin, t1):
    before = {path: path.read_bytes() for path in standin.iterdir()}
    result = run("translate", t1)
    assert result.exit_code == 0, result.output
    name = f"sub-01_acq-fast_{FA}"
    deviation = name.replace("synth", "synthsd")
    names = [f"{name}.nii.gz", f"{deviation}.nii.gz", f"{name}.png"]
    assert result.output.split() == names
    assert {path.name for path in Path().iterdir()} == {*names, f"{name}.json", f"{deviation}.json"}
    assert {path: path.read_bytes() for path in standin.iterdir()} == before
    assert run("translate", t1, "--weights", trained / "model.safetensors", "--out", "full.nii.gz").exit_code == 0
    half, full = load(Path(names[0])), load(Path("full.nii.gz"))
    assert same_grid(half, load(t1)) and half.data.std() > 0.01
    assert 0 < np.abs(half.data - full.data).max() < 1e-3
    about = read_json(f"{name}.json")
    assert about["TrainedOn"] == SENTENCE and about["WeightsSHA256"] == read_json(standin / "model.json")["weights"]
    assert "TrainedOn" not in read_json("full.json")
    assert Image.open(names[2]).height > Image.open("full.png").height, "a caption says what it was trained on"


def test_the_caption_of_a_qc_figure_is_whole_and_below_the_rows():
    volume = np.ones((40, 50, 45))
    panels = [Panel("a map", volume)]
    plain, captioned = (draw(panels, volume > 0, 2.0, caption=text).convert("L") for text in ("", SENTENCE))
    twice = draw(panels, volume > 0, 2.0, caption=f"{SENTENCE} {SENTENCE}")
    assert plain.width == captioned.width and plain.height < captioned.height < twice.height
    found, without = np.asarray(captioned), np.asarray(plain)
    assert np.array_equal(found[: plain.height], without)
    written = np.flatnonzero(found[plain.height :].max(axis=0) > 200)
    assert written.min() < 10 and written.max() < captioned.width - 5, "no letter is cut off"


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("sub-01_T1w.nii.gz", "fa", f"sub-01_{FA}.nii.gz"),
        ("sub-01_ses-2_run-1_T1w.nii", "fa", f"sub-01_ses-2_run-1_{FA}.nii.gz"),
        ("sub-01_space-MNI_desc-preproc_T1w.nii.gz", "fa", f"sub-01_{FA.replace('T1w', 'MNI')}.nii.gz"),
        ("sub-01_T1w.nii.gz", "tdi", "sub-01_space-T1w_desc-synth_model-tracts_param-tdi_dwimap.nii.gz"),
        ("T1.nii.gz", "fa", "T1_synthetic_FA.nii.gz"),
        ("T1.mgz", "md", "T1_synthetic_MD.nii.gz"),
        ("a_scan.of_mine.nii", "fa", "a_scan.of_mine_synthetic_FA.nii.gz"),
        ("sub-01_other-1_T1w.nii.gz", "fa", "sub-01_other-1_T1w_synthetic_FA.nii.gz"),
        ("sub-0 1_T1w.nii.gz", "fa", "sub-0 1_T1w_synthetic_FA.nii.gz"),
    ],
)
def test_a_map_is_named_after_its_t1(name, target, expected):
    assert map_named_after(Path("elsewhere") / name, target) == Path(expected)
    assert len({path.name for path in default_outputs(Path(expected))}) == 3


def test_nothing_is_written_into_a_dataset_that_was_not_named(standin, tmp_path, monkeypatch):
    root = dataset(tmp_path / "raw", "sub-01")
    (scan,) = root.glob("sub-01/anat/*_T1w.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    before = sorted(root.rglob("*"))
    for folder in (root, scan.parent):
        monkeypatch.chdir(folder)
        result = run("translate", scan)
        assert result.exit_code == 2 and "would lie inside the dataset" in result.output, result.output
    with pytest.raises(DataError, match="lie inside the dataset"):
        native.translate_file(scan)
    monkeypatch.chdir(tmp_path)
    assert map_named_after(scan, "fa").name == f"sub-01_{FA}.nii.gz"
    result = run("translate", root)
    assert result.exit_code == 2 and "a folder needs --out" in result.output
    assert sorted(root.rglob("*")) == before


def test_a_default_name_is_never_that_of_an_input(standin, t1):
    mask = Path(f"sub-01_acq-fast_{FA}.nii.gz")
    save(mask, Volume(np.ones(load(t1).shape, np.uint8), load(t1).affine))
    before = mask.read_bytes()
    result = run("translate", t1, "--brain", mask)
    assert result.exit_code == 2 and "output" in result.output and mask.read_bytes() == before
    with pytest.raises(DataError, match="output is an input"):
        native.translate_file(t1, brain=mask)


def test_the_network_lies_beside_its_weights_and_the_engine_is_chosen(standin, t1, monkeypatch):
    networks = []
    monkeypatch.setattr(native, "translate_t1", lambda *given: networks.append(given[4]) or {})
    weights = standin / "model.safetensors"
    assert (standin / "model.onnx").is_file()
    for flags in ((), ("--engine", "torch")):
        assert run("translate", t1, *flags).exit_code == 0
    native.translate_file(t1)
    assert [(one.engine, one.weights) for one in networks] == [("auto", weights), ("torch", weights), ("auto", weights)]
    assert run("translate", t1, "--engine", "jax").exit_code == 2


def test_python_has_the_same_defaults(standin, t1, monkeypatch):
    calls = []
    monkeypatch.setattr(native, "translate_t1", lambda path, *rest: calls.append((path, *rest[-2:])))
    native.translate_file(t1)
    native.translate_file(str(t1), "t1-fa", "fa.nii.gz")
    (path, outputs, sources), (_, named, _) = calls
    assert path == t1 and outputs == default_outputs(Path(f"sub-01_acq-fast_{FA}.nii.gz"))
    assert sources == [t1, standin / "model.safetensors"] and named.image == Path("fa.nii.gz")


def test_weights_are_found_by_name_and_a_file_comes_before_it(standin, tmp_path, monkeypatch):
    weights = standin / "model.safetensors"
    assert pretrained.weights_of() == pretrained.weights_of("t1-fa") == weights
    monkeypatch.chdir(tmp_path)
    for path in ("model.safetensors", "t1-fa/model", Path("t1.fa")):
        assert pretrained.weights_of(path) == Path(path)
    Path("t1-fa").mkdir()
    assert pretrained.weights_of("t1-fa") == weights, "a folder is no file of weights"
    Path("t1-fa").rmdir()
    Path("t1-fa").write_bytes(b"")
    assert pretrained.weights_of("t1-fa") == Path("t1-fa")
    with pytest.raises(DataError, match="no weights named t1-md") as found:
        pretrained.weights_of("t1-md")
    assert found.value.value == "t1-fa"


def test_without_installed_weights_the_error_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "absent")
    result = run("translate", "T1.nii.gz")
    assert result.exit_code == 1 and len(result.output.strip().splitlines()) == 1
    assert "no weights named t1-fa are installed with m2m (found none)" in result.output
    assert "--weights" in result.output


def test_installed_models_are_listed_also_where_no_results_are(trained, standin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (row,) = describe_installed()
    assert (row["licence"], row["note"], row["file"]) == ("CC BY-SA 4.0", SENTENCE, "t1-fa/model.safetensors")
    assert (row["model"], row["ssim"]) == ("macro2micro", "0.71 (- to -)")
    result = run("models")
    assert result.exit_code == 0 and str(standin.parent) in result.output and SENTENCE in result.output
    folder = tmp_path / "results" / "study" / "models" / "t1-fa" / "t1"
    folder.mkdir(parents=True)
    (tmp_path / "results" / "study" / "cohort").mkdir()
    write_line(folder)
    result = run("models")
    assert result.exit_code == 0 and "models/t1-fa/t1/model.safetensors" in result.output
    assert result.output.index(SENTENCE) < result.output.index("models/t1-fa/t1")
    assert run("models", "--results", tmp_path).exit_code == 1, "nothing is trained there"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_in_half_precision_too(tmp_path, value):
    save_file({"a": np.array([1, value], np.float16)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="NaN or infinite"):
        load_weights(tmp_path / "model.safetensors")


def test_what_half_precision_cannot_hold_is_not_packed():
    few, many = np.full(packing.FEW, 1e5, np.float32), np.full(packing.FEW + 1, 1e5, np.float32)
    assert packing.halved({"affine": few})["affine"].dtype == np.float32
    with pytest.raises(DataError, match="exceed the range"):
        packing.halved({"mean": many})


def test_what_may_not_be_passed_on_is_not_packed(trained, tmp_path, monkeypatch):
    weights, out = trained / "model.safetensors", tmp_path / "weights"

    def refused(*flags, to=out):
        result = run("export", "--format", "weights", "--weights", weights, "--out", to, *flags)
        assert result.exit_code == 1 and not out.exists(), result.output
        return " ".join(result.output.split())

    before = {path: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    assert "need a licence" in refused()
    assert "--trained-on is not a plain sentence" in refused("--licence", "CC0", "--trained-on", "$print(1)")
    assert "--licence is not a plain sentence" in refused("--licence", "https://example.org")
    assert "output is an input" in refused("--licence", "CC0", to=trained)
    monkeypatch.setattr(packing, "MOST_BYTES", packing.FURTHER_BYTES + 10_000)
    size = packing.save(packing.halved(load_file(weights)))
    assert f"found {len(size) / 1e6:.3g} MB in half precision, at most 0.01 MB" in refused("--licence", "CC0")
    assert {path: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def test_a_licence_that_is_given_is_kept_word_for_word_and_goes_with_a_bundle(trained, standin, tmp_path):
    text = tmp_path / "terms.txt"
    text.write_text("Terms of the atlas.\nIts authors: https://example.org\n")
    out, again, bundle = (tmp_path / name for name in ("t1-fa", "again", "bundle"))
    assert packed(trained / "model.safetensors", out, "--licence-file", text).exit_code == 0
    assert (out / "LICENSE").read_text() == text.read_text() and not (out / "summary.tsv").exists()
    packed_again = run("export", "--format", "weights", "--weights", out / "model.safetensors", "--out", again)
    assert packed_again.exit_code == 0, packed_again.output
    for name in ("model.safetensors", "model.json", "model_card.md", "LICENSE"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert run("export", "--weights", out / "model.safetensors", "--out", bundle).exit_code == 0
    assert (bundle / "LICENSE").read_text() == text.read_text()
    card = (bundle / "docs" / "README.md").read_text()
    assert card.count("Licence of these weights: CC BY-SA 4.0.") == 1 and SENTENCE[1:] in card
    assert read_json(bundle / "models" / "model.json")["weights"] in card


def test_a_baseline_is_packed_and_computes_in_single_precision(tmp_path):
    template = load_template("wm", 3.0)
    tensors = {"mean": 0.7 * template.data, "sd": 0.1 + 0 * template.data, "affine": template.affine}
    record = {"family": "mean", "model": "mean", "shape": [64, 80, 64], "t1_range_percent": [1, 99]}
    weights = write_line(tmp_path, **record)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, weights)
    about = read_json(tmp_path / "model.json")
    about |= {"weights": file_digest(weights), "parameters": sum(tensor.size for tensor in tensors.values())}
    write_json(tmp_path / "model.json", about)
    assert packed(weights, tmp_path / "packed").exit_code == 0
    half, _ = load_model(tmp_path / "packed" / "model.safetensors", tmp_path / "packed" / "model.json")
    assert half["mean"].dtype == np.float32 and np.array_equal(half["affine"], template.affine)
    grid = (template.affine, template.shape, np.diag([1.02, 0.98, 1, 1]))
    difference = predict_mean_map(half, *grid).image - predict_mean_map(tensors, *grid).image
    assert 0 < np.abs(difference).max() < 1e-3


@pytest.mark.parametrize("name", pretrained.installed())
def test_weights_that_are_shipped_are_whole(name):
    weights = pretrained.installed()[name]
    folder = weights.parent
    _, record = load_model(weights, folder / "model.json")
    assert record["trained_on"] and record["licence"]
    assert (folder / "LICENSE").read_text().strip() and record["weights"] in (folder / "model_card.md").read_text()
    assert {path.name for path in folder.iterdir()} <= set(packing.FILES)
    if section_of(record).trained:
        run_by_onnx = onnx_engine(folder / "model.onnx", weights, record, "cpu")
        assert run_by_onnx(*example(record, 2, 0)).image.std() > 0.01


def test_the_tutorial_s_network_for_own_pairs_is_that_of_the_installed_weights():
    """Else the layers of the weights would not fit."""
    tutorial = (Path(__file__).parents[1] / "docs/tutorial.md").read_text()
    (lines,) = re.findall(r"^    models:\n      own:\n((?:        .+\n)+)", tutorial, re.M)
    given = yaml.safe_load(lines)
    record = read_json(pretrained.FOLDER / "t1-fa" / "model.json")
    assert given["training"]["start_from"] == "pretrained"
    own, theirs = section_of({"options": given}), section_of(record)
    assert own.network == theirs.network and own.losses == theirs.losses and own.discriminators == theirs.discriminators
