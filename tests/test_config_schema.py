"""The JSON schema accepts what the models of a configuration accept, and refuses what they refuse."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from typer.testing import CliRunner

from m2m import cli
from m2m.options import FAMILIES, Config
from m2m.options.config_schema import EDITOR_LINE, config_schema

ROOT = Path(__file__).parents[1]
WHOLE = ("config.yaml", "config.paper.yaml", "tests/config.yaml", "tests/real.yaml", "tests/downstream.yaml")


@pytest.fixture(scope="module")
def schema():
    found = config_schema()
    Draft202012Validator.check_schema(found)
    return found


@pytest.fixture(scope="module")
def accepted(schema):
    """Whether the schema accepts a configuration."""
    return Draft202012Validator(schema).is_valid


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def changed(config, path, value):
    """A configuration with one key set to a value."""
    config = copy.deepcopy(config)
    section = config
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
    return config


@pytest.mark.parametrize("name", WHOLE)
def test_the_configurations_that_m2m_comes_with_are_accepted(schema, name):
    errors = [(list(e.absolute_path), e.message) for e in Draft202012Validator(schema).iter_errors(read(name))]
    assert not errors


def parts(value, path=()):
    """Path of every mapping with keys of the configuration's own inside a configuration."""
    named = path in {("models",), ("tasks",)} or path[-1:] in {("targets",), ("steps",)}
    if isinstance(value, dict):
        if not named:
            yield path
        for key, inside in value.items():
            yield from parts(inside, (*path, key))


@pytest.mark.parametrize("name", WHOLE)
def test_a_misspelt_key_is_refused_in_every_section(accepted, name):
    config = read(name)
    # Losses of a task are named by its models' families: the models check them, the schema does not.
    places = [path for path in parts(config) if not (path[0:1] == ("tasks",) and path[-1] == "losses")]
    assert len(places) > 10
    wrong = [path for path in places if accepted(changed(config, (*path, "mispelt"), 1))]
    assert not wrong


CHANGES = [
    # path, value, whether it is a configuration
    (("models", "t1", "family"), "mena", False),
    (("models", "heir"), {"base": "macro2micro"}, True),
    (("models", "heir"), {"base": "macro2micro", "network": {"context": 1}, "mirror": False}, True),
    (("models", "heir"), {"base": "macro2micro", "networks": {"context": 1}}, False),
    (("models", "heir"), {"base": "macro2micro", "network": {"contexts": 1}}, False),
    (("models", "heir"), {"network": {"context": 1}}, False),
    (("models", "heir"), {}, False),
    (("models", "a/b"), {"family": "mean"}, False),
    (("models", "pix2pix", "correct_labels"), True, True),
    (("models", "pix2pix", "correct_labels"), {"start": 3}, True),
    (("models", "pix2pix", "correct_labels"), {"starts": 3}, False),
    (("models", "pix2pix", "correct_labels"), "yes", False),
    (("tasks", "a b"), {}, False),
    (("tasks", "t1-fa", "target"), "fractional", False),
    (("tasks", "t1-fa", "steps"), 0, False),
    (("tasks", "t1-fa", "steps"), {"macro2micro": 20}, True),
    (("anat", "shape"), [64, 80, 64], True),
    (("anat", "shape"), [64, 80], False),
    (("anat", "spacing_mm"), 0, False),
    (("dti", "fit"), "wls", False),
    (("dti", "mask", "method"), "supplied", True),
    (("split", "validation"), 1.2, False),
    (("cohort", "participant_label"), ["01"], True),
    (("cohort", "participant_label"), ["a_b"], False),
    (("tractography", "backend"), "fsl", False),
    (("tractography", "backend"), "mrtrix3", True),
    (("dataset",), "my study", False),
    (("downstream",), {"targets": {"age": "regression"}, "tasks": ["t1-fa"]}, True),
    (("downstream",), {"targets": {"age": "number"}}, False),
    (("downstream",), {"targets": {"a b": "regression"}}, False),
]


@pytest.mark.parametrize(("path", "value", "right"), CHANGES, ids=lambda value: json.dumps(value)[:40])
def test_the_schema_and_the_models_agree_about_a_change(accepted, path, value, right):
    config = changed(read("tests/config.yaml") | {"downstream": {}}, path, value)
    try:
        Config.model_validate(config)
        valid = True
    except ValidationError:
        valid = False
    assert (accepted(config), valid) == (right, right)


def test_what_has_no_default_is_needed(accepted):
    config = read("tests/config.yaml")
    del config["dataset"]
    assert not accepted(config)


def test_every_family_and_every_description_is_in_it(schema):
    text = json.dumps(schema)
    assert all(f'"const": "{family}"' in text for family in FAMILIES)
    assert schema["$defs"]["Dti"]["properties"]["max_b_s_per_mm2"]["description"] == (
        "Shells with larger b-values, by their median, are excluded from the fit"
    )


def test_the_command_writes_it_and_prints_it(schema, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(cli.app, ["schema"])
    assert json.loads(printed.output) == schema
    written = CliRunner().invoke(cli.app, ["schema", "--out", "config.schema.json"])
    assert json.loads(Path("config.schema.json").read_text()) == schema
    assert EDITOR_LINE.format("config.schema.json") in written.output
