"""Families: each is two files and a line of the registry, and has everything that m2m needs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from small_families import ALONE, TRAINED, small

from m2m.models.building import build_network, build_objective
from m2m.models.implementation import implementation
from m2m.objectives.objective import Objective
from m2m.options import FAMILIES, Family, Model, Trained, section_of

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "development.md").read_text()
# Names that are also an image, a statistic and a map that others are compared with.
OTHER_MEANINGS = {"t1", "mean", "atlas"}
# Other files with a name of a family, which is one of a model there.
ALLOWED = {
    "m2m/cohort/study_lines.py": {"macro2micro"},
    "m2m/options/task_options.py": {"macro2micro"},
    "m2m/options/downstream_options.py": {"macro2micro"},
}
PACKAGES = ("m2m/options/families/", "m2m/models/families/")


def test_each_section_has_the_name_of_the_registry_and_its_class_attributes():
    for name, module in FAMILIES.items():
        section = module.SECTION()
        assert section.family == name and isinstance(section, Family)
        assert section.trained == isinstance(section, Trained)
        assert len(section.sentence) > 20 and not section.sentence.endswith(".")
        assert section_of({"options": section.model_dump(mode="json"), "family": name}) == section
        assert section_of({"options": {}, "family": name}) == section


def test_class_attributes_of_a_family_are_no_options():
    for module in FAMILIES.values():
        options = set(module.SECTION().model_dump(mode="json"))
        assert not options & {"implementation", "sentence", "trained", "uses_low_res", "uses_deformation", "packages"}
        assert options <= set(module.SECTION.model_fields)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_the_functions_of_its_kind(name):
    module = implementation(FAMILIES[name].SECTION())
    needed = ("build_network", "build_objective") if name in TRAINED else ("fit", "predict")
    assert all(callable(getattr(module, function)) for function in needed)


def test_sections_need_no_torch():
    code = "import sys, m2m.options; print('torch' in sys.modules, 'monai' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.split() == ["False", "False"], found.stderr


@pytest.mark.parametrize("name", ALONE)
def test_an_objective_names_its_discriminators_and_helpers_and_takes_no_options(name):
    model = small(name, perceptual={"network": "self"}) if has_features(name) else small(name)
    objective = build_objective(model)
    assert isinstance(objective, Objective)
    learning = {id(p) for p in objective.parameters()}
    named = (objective.discriminators, objective.helpers)
    assert learning == {id(p) for part in named for p in part.parameters()}
    assert not any(isinstance(value, Family) for value in vars(objective).values())
    network = build_network(model, prior=prior()) if model.window.prior else build_network(model)
    assert any(p.requires_grad for p in network.parameters())


def has_features(name):
    return "perceptual" in FAMILIES[name].SECTION.model_fields


def prior():
    from m2m.networks.slice_inputs import TemplateMap

    return TemplateMap(torch.zeros(1, 4, 4, 4), torch.eye(4))


def test_a_family_that_does_not_exist_is_an_error_by_name():
    for ask in (TypeAdapter(Model).validate_python, lambda o: section_of({"options": o})):
        with pytest.raises(ValidationError, match=r"'resnet'.*'macro2micro', .*'upsampled'"):
            ask({"family": "resnet"})
    with pytest.raises(ValidationError, match="resnet"):
        section_of({"options": {"family": "unet"}, "family": "resnet"})


def strings(path):
    """Every string in a Python file that is no docstring, or between quotes in a rule file."""
    if path.suffix == ".smk":
        return set(re.findall(r"""["']([\w-]+)["']""", path.read_text()))
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_no_other_file_knows_a_family_by_name():
    found = {}
    for path in [*ROOT.glob("m2m/**/*.py"), *ROOT.glob("rules/*.smk")]:
        name = path.relative_to(ROOT).as_posix()
        known = strings(path) & (FAMILIES.keys() - OTHER_MEANINGS)
        if known and not name.startswith(PACKAGES):
            found[name] = known
    assert found == ALLOWED


def test_no_other_file_compares_the_family_of_a_model():
    comparison = re.compile(r"family\W*\]?\s*(?:==|!=|in)\s|\.startswith\(.*family|family.*\.startswith")
    names = re.compile("|".join(module.SECTION.__name__ + r"\b" for module in FAMILIES.values()))
    for path in [*ROOT.glob("m2m/**/*.py"), *ROOT.glob("rules/*.smk")]:
        if path.relative_to(ROOT).as_posix().startswith(PACKAGES):
            continue
        for line in path.read_text().splitlines():
            code = line.split("#")[0]
            assert not (comparison.search(code) and '"' in code), f"{path.name}: {line}"
            assert not re.search(rf"isinstance\(.*({names.pattern})", code), f"{path.name}: {line}"


def test_a_family_is_added_in_two_files_and_a_line_as_the_documentation_says(tmp_path):
    """From training to the report, in a copy of the package with the code of the page."""
    shutil.copytree(ROOT / "m2m", tmp_path / "m2m", ignore=shutil.ignore_patterns("__pycache__"))
    files = re.findall(r"^```python\n# (m2m/\S+)\n(.*?)^```", PAGE, re.M | re.S)
    assert len(files) == 2
    for name, text in files:
        path = tmp_path / name
        assert path.parent.is_dir() and not path.exists()
        path.write_text(text)
    (diff,) = re.findall(r"^```diff\n(.*?)^```", PAGE, re.M | re.S)
    subprocess.run(["git", "apply", "-"], input=diff, text=True, check=True, cwd=tmp_path)
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "tests")])
    result = subprocess.run(
        [sys.executable, ROOT / "tests/toy_study.py", "one-convolution", tmp_path / "study"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["package"] == str(tmp_path / "m2m")
    first, _, training = found["sentences"]
    assert first.startswith("`toy`: one convolution of a slice, trained by L1. Its input was one slice.")
    assert training.startswith("`toy` on `t1-fa`: 6 steps of 4 slices")
    toy, mean = found["rows"]
    assert (toy["family"], toy["n_train"], toy["parameters"]) == ("one-convolution", 2, 10)
    assert mean["family"] == "mean"
    assert set(found["mae"]) == {"toy", "mean"} and 0 < float(found["mae"]["toy"]) < 1


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_the_family_of_the_documentation_is_clean_code(command):
    ruff = [Path(sys.executable).with_name("ruff"), *command, "--stdin-filename"]
    for name, text in re.findall(r"^```python\n# (m2m/\S+)\n(.*?)^```", PAGE, re.M | re.S):
        done = subprocess.run([*ruff, ROOT / name, "-"], input=text, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
