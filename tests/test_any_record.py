"""Whatever a model.json holds: it is a valid record or one line of error; nothing of it is evaluated or disclosed."""

import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from line_model import run, write_line
from safetensors.numpy import save_file
from small_cohort import small_model, train_arguments, write_cohort

from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.quoting import printable
from m2m.models.building import load_network
from m2m.models.catalogue import describe_models
from m2m.models.record import load_model, load_weights
from m2m.models.record_schema import public_record, read_record
from m2m.options import FAMILIES
from m2m.translate.monai_bundle import metadata

MANY = settings(derandomize=True, deadline=None, max_examples=2000)
RECORD = {
    "task": "t1-fa",
    "model": "macro2micro",
    "family": "macro2micro",
    "options": {"network": {"context": 3, "widths": [8, 16]}, "perceptual": {"network": "none", "weights": None}},
    "source": "t1",
    "target": "fa",
    "spacing_mm": 3.0,
    "shape": [64, 80, 64],
    "t1_range_percent": [1.0, 99.0],
    "n_train": 2,
    "n_validation": 1,
    "train_participants": ["sub-01", "sub-02"],
    "validation_participants": ["sub-03"],
    "skipped": {"failed": 0, "excluded": 0, "incomplete": 0},
    "split_hash": "0c947d6334988421",
    "data_hash": "d0511160b214b84d",
    "code_version": "0.1.0",
    "encoder": None,
    "started_from": {
        "task": "t1-fa",
        "model": "macro2micro",
        "weights": "0c947d6334988421",
        "spacing_mm": 2.0,
        "simulated": True,
        "n_taken": 9,
        "not_taken": {"inputs.prior": "not in the start"},
    },
    "fingerprint": "339a1317adc2b5c7",
    "simulated": False,
    "trained_on": "templates (MNI152), not on measured diffusion: FA of anatomy",
    "licence": "CC BY-SA 4.0",
    "validation_range": {"asymmetry": {"low": 0.05, "high": 0.12, "n_subjects": 13}},
    "best_step": 4,
    "validation": {"metric": "brain_mae", "value": 0.1, "n_subjects": 1},
    "uncertainty": {
        "method": "views",
        "factors": {"constant": 0.15, "views": 2.5},
        "nll": {"constant": -0.5, "views": -0.6},
        "part": "validation",
        "n_subjects": 1,
    },
    "parameters": 77915,
    "weights": "83c2c8edc952e3c8",
}
# Texts that MONAI would evaluate or look up, that lead to another folder, or that are no names.
TEXTS = st.sampled_from(
    [
        "$__import__('os').system('id')",
        "%bundle_root",
        "@weights",
        "../../x",
        "/etc/passwd",
        "sub-01",
        "t1-fa",
        "fa",
        "a\nb",
        "",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Every place in nested JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


PLACES = [path for path in places(RECORD) if path]


def changed(path, value):
    """A record with another value in one place; `...` removes it."""
    record = copy.deepcopy(RECORD)
    inside = record
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return record


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "model.json"


def texts_of(value):
    """Every text in nested JSON, its keys too."""
    if isinstance(value, str):
        yield value
    for part in value.items() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from texts_of(part)


def require_valid_or_one_line(path):
    """Read the record; a valid one has nothing that MONAI evaluates, and its public part no participants."""
    try:
        record = read_record(path)
    except DataError as error:
        assert printable(error.problem) == error.problem and len(str(error)) < 1500 and error.remedy
        return None
    paths = set(texts_of(record["options"]))
    for text in {*texts_of(record)} - paths | {*texts_of(metadata(record, 3))}:
        assert not text.startswith(("$", "%", "@", "/", ".")), text
    public = public_record(record)
    # A task, a metric or a hash may look like a participant: the lists of participants are what is left out.
    assert not {"train_participants", "validation_participants", "skipped"} & public.keys()
    assert not [text for text in texts_of(public) if "/" in text]
    json.dumps(public, allow_nan=False)
    return record


def test_the_record_itself_is_valid_and_unchanged(path):
    write_json(path, RECORD)
    assert require_valid_or_one_line(path) == RECORD | {"options": RECORD["options"] | {"family": "macro2micro"}}


@MANY
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES | st.just(...)), min_size=1, max_size=3))
@example([(("task",), "$__import__('os').system('id')")])
@example([(("model",), "%bundle_root")])
@example([(("spacing_mm",), float("nan"))])
@example([(("shape",), [10**9] * 3)])
@example([(("options", "network", "widths"), [10**9])])
@example([(("uncertainty", "factors", "constant"), float("inf"))])
def test_any_change_of_a_record_is_valid_or_one_line_of_error(path, changes):
    record = RECORD
    for place, value in changes:
        try:
            record = (
                changed(place, value)
                if len(changes) == 1
                else {**record, place[0]: changed(place, value).get(place[0])}
            )
        except (KeyError, TypeError, IndexError):
            continue
    path.write_text(json.dumps(record), encoding="utf-8")
    require_valid_or_one_line(path)


@MANY
@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=3))
def test_any_further_key_is_one_line_of_error(path, further):
    path.write_text(json.dumps(RECORD | {f"x{key}": value for key, value in further.items()}), encoding="utf-8")
    assert require_valid_or_one_line(path) is None or not further


@MANY
@given(st.binary(max_size=100) | st.text(st.sampled_from('{}[]":,0129eE.-tfn \\u"'), max_size=60).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"options":' * 100_000)
@example(b'{"parameters": ' + b"1" * 100_000 + b"}")
@example(b'{"spacing_mm": 1e999}')
@example(b"\xff\xfe")
def test_any_bytes_for_a_record_are_one_line_of_error(path, content):
    path.write_bytes(content)
    assert require_valid_or_one_line(path) is None


BAD_VALUES = {
    "task": "../../evil",
    "model": "$print(1)",
    "family": "os",
    "source": "fa2",
    "spacing_mm": 0,
    "shape": [100_000, 100_000, 100_000],
    "t1_range_percent": [99, 1],
    "train_participants": ["sub-../x"],
    "split_hash": "%x",
    "code_version": "$x",
    "uncertainty": {"method": "views", "factors": {"constant": 1}, "nll": {}, "part": "train", "n_subjects": 1},
    "first": {},
    "low_res": {"factor": 2, "source": "dwi"},
    "parameters": 1e400,
    "skipped": {"$x": 1},
    "trained_on": "$x",
    "licence": "by sub-01 alone",
}


@pytest.mark.parametrize("key", BAD_VALUES)
def test_each_bad_value_is_refused_by_the_name_of_its_key(path, key):
    path.write_text(json.dumps(RECORD | {key: BAD_VALUES[key]}))
    with pytest.raises(DataError, match="is not the record of a model") as found:
        read_record(path)
    assert key in found.value.problem


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_of_a_network_are_bounded_for_every_family(path, family):
    section = FAMILIES[family].SECTION
    if "network" not in section.model_fields:
        return
    for name, value in section().network.model_dump(mode="json").items():
        huge = [10**6] * len(value) if isinstance(value, list) else 10**6 + 1
        if isinstance(value, bool | str) or (isinstance(value, float) and value <= 1):
            continue
        record = RECORD | {"family": family, "options": {"network": {name: huge}}}
        path.write_text(json.dumps(record))
        with pytest.raises(DataError, match="is not the record of a model"):
            read_record(path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"", b"\xff", b"{}", b'{"task": NaN}'])
def test_a_command_ends_in_one_line_whatever_the_record_is(tmp_path, content):
    weights = write_line(tmp_path)
    (tmp_path / "model.json").write_bytes(content)
    for command in (("translate", "t1.nii.gz", "--out", "fa.nii.gz"), ("export", "--out", tmp_path / "bundle")):
        result = run(*command, "--weights", weights)
        assert result.exit_code == 1 and len(result.output.strip().splitlines()) == 1, result.output
        assert "is not the record of a model" in result.output
    assert not (tmp_path / "bundle").exists()


def test_a_pipe_or_device_is_neither_weights_nor_record(tmp_path):
    weights = write_line(tmp_path)
    (tmp_path / "model.json").unlink()
    os.mkfifo(tmp_path / "model.json")
    with pytest.raises(DataError, match="missing"):
        load_model(weights, tmp_path / "model.json")
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_weights(tmp_path / "model.json")
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_weights("/dev/zero")


def with_weights(folder, tensors, **record):
    """Write weights with a record that names them."""
    weights = write_line(folder, **record)
    save_file(tensors, weights, metadata={"author": "/data/alice", "participants": "sub-01"})
    about = read_json(folder / "model.json")
    n = sum(tensor.size for tensor in tensors.values())
    write_json(folder / "model.json", about | {"weights": file_digest(weights), "parameters": n})
    return weights


BAD_TENSORS = {
    "NaN": ({"intercept": np.array([np.nan]), "slope": np.array([1.0])}, "NaN or infinite"),
    "other names": ({"a": np.array([1.0]), "slope": np.array([1.0])}, "not intercept and slope"),
    "other shapes": ({"intercept": np.zeros(3), "slope": np.zeros(3)}, "intercept has the shape"),
    "none": ({}, "not intercept and slope"),
    "infinite in half precision": (
        {"intercept": np.array([np.inf], np.float16), "slope": np.array([1.0])},
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_weights_that_do_not_fit_the_record_are_one_line_of_error(tmp_path, kind):
    tensors, problem = BAD_TENSORS[kind]
    weights = with_weights(tmp_path, tensors)
    with pytest.raises(DataError, match=problem):
        load_model(weights, tmp_path / "model.json")


def test_a_network_whose_weights_have_other_sizes_is_not_built(tmp_path):
    options = {"network": {"widths": [4096] * 8}}
    record = RECORD | {"options": options}
    with pytest.raises(DataError, match="do not fit their record"):
        load_network({"x": np.zeros(3, np.float32)}, record)
    with pytest.raises(DataError, match="the prior has the shapes"):
        load_network({"inputs.prior.values": np.zeros(3, np.float32)}, record)


def test_a_bundle_has_no_participant_no_path_and_no_metadata(tmp_path):
    tensors = {"intercept": np.array([0.1]), "slope": np.array([1.0])}
    about = {"train_participants": ["sub-01"], "validation_participants": ["sub-secret"], "skipped": {"failed": 1}}
    options = {"options": {"family": "t1"}}
    weights = with_weights(tmp_path, tensors, **about, **options)
    (tmp_path / "card.md").rename(tmp_path / "model_card.md")
    out = tmp_path / "bundle"
    result = run("export", "--weights", weights, "--out", out)
    assert result.exit_code == 0, result.output
    for path in filter(Path.is_file, out.rglob("*")):
        content = path.read_bytes()
        for text in (b"sub-01", b"sub-secret", b"alice", str(tmp_path).encode(), b"skipped"):
            assert text not in content, path
    found, record = load_model(out / "models" / "model.safetensors", out / "models" / "model.json")
    assert found["slope"] == [1.0] and record["n_train"] == 2
    card = tmp_path / "model_card.md"
    card.write_text(card.read_text() + "\nBest for sub-secret.\n")
    result = run("export", "--weights", weights, "--out", out)
    assert result.exit_code == 1 and "names participants (found sub-secret)" in result.output


def test_a_local_path_among_the_options_does_not_leave_with_a_bundle():
    options = {"perceptual": {"network": "vgg19", "weights": "/data/alice/vgg19.pth"}}
    public = public_record(RECORD | {"options": options})
    assert public["options"]["perceptual"]["weights"] == "vgg19.pth"
    assert "train_participants" not in public and "skipped" not in public


def test_an_onnx_file_has_no_path_of_this_machine(tmp_path):
    pytest.importorskip("onnxruntime")
    write_cohort(tmp_path, n_train=1, n_validation=1)
    assert run(*train_arguments(tmp_path, tmp_path, small_model(steps=1), "macro2micro")).exit_code == 0
    out = tmp_path / "network.onnx"
    result = run("export", "--format", "onnx", "--weights", tmp_path / "model.safetensors", "--out", out)
    assert result.exit_code == 0, result.output
    files = out, out.with_suffix(".json"), tmp_path / "model.onnx"
    written = b"".join(path.read_bytes() for path in files)
    for text in (b".py", str(Path.cwd()).encode(), str(tmp_path).encode(), b"sub-0"):
        assert text not in written


def test_one_bad_record_does_not_hide_the_other_models(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "models" / "t1-fa" / name).mkdir(parents=True)
        write_line(tmp_path / "models" / "t1-fa" / name, model=name)
    (tmp_path / "models" / "t1-fa" / "a" / "model.json").write_text('{"task": "../../x"}')
    assert [row["model"] for row in describe_models(tmp_path)] == ["b"]
    assert "not listed: is not the record of a model" in capsys.readouterr().err
