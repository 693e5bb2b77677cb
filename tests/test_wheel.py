"""The wheel in an empty environment: alone it translates a T1, and the containers' extras install."""

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, build_wheel, copy_of_the_sources
from line_model import run
from small_cohort import small_model, train_arguments, write_cohort

import m2m
from m2m.io.files import read_json
from m2m.io.volume import Volume, load, same_grid, save
from m2m.structural.template import load_template

CONTAINERS = ROOT / "envs"


def steps_of_docker():
    """Commands of the Dockerfile's RUN lines, in order."""
    text = (CONTAINERS / "Dockerfile").read_text().replace("\\\n", " ")
    return [" ".join(step.split()) for run in re.findall(r"^RUN (.+)$", text, re.M) for step in run.split(" && ")]


def section_of_apptainer(name):
    """Lines of a section of the Apptainer definition."""
    text = (CONTAINERS / "m2m.def").read_text()
    (body,) = re.findall(rf"^%{name}\n((?: {{4}}.*\n)+)", text, re.M)
    return [line.strip() for line in body.splitlines()]


def test_both_containers_are_made_by_the_same_steps_of_the_same_files():
    assert steps_of_docker() == section_of_apptainer("post") + section_of_apptainer("test")
    docker = (CONTAINERS / "Dockerfile").read_text()
    (base,) = re.findall(r"^FROM (.+)$", docker, re.M)
    assert f"From: {base}" in (CONTAINERS / "m2m.def").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", docker, re.M) for name in line.split()]
    assert copied == [line.split()[0] for line in section_of_apptainer("files")]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}


@pytest.fixture(scope="module")
def environment():
    """Variables without what would lead to this checkout or to the environment of the tests."""
    leads_here = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in leads_here}


@pytest.fixture(scope="module")
def empty(tmp_path_factory, environment):
    """Python of an environment that holds the wheel and what it asks for, in the locked versions."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, env=environment)
    python = folder / "venv/bin/python"
    wheel = build_wheel(folder / "wheel")
    lock = ("--constraint", ROOT / "constraints.txt")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-compile", *lock, wheel],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert installed.returncode == 0, installed.stderr
    return python


def call(python, environment, *arguments, cwd):
    """Run a program of an environment."""
    program, *rest = (str(a) for a in arguments)
    command = [str(python.with_name(program)), *rest]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


@pytest.mark.end_to_end
def test_the_wheel_alone_translates_a_t1_as_the_checkout_does(empty, environment, tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=1, shape=(32, 40, 32))
    assert run(*train_arguments(tmp_path, tmp_path, small_model(steps=2))).exit_code == 0
    template = load_template("t1", 3.0)
    save(tmp_path / "t1.nii.gz", Volume(1000 * template.data, template.affine))
    arguments = ("translate", tmp_path / "t1.nii.gz", "--weights", tmp_path / "model.safetensors", "--out")
    done = call(empty, environment, "m2m", *arguments, tmp_path / "wheel.nii.gz", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    here = run(*arguments, tmp_path / "checkout.nii.gz")
    assert here.exit_code == 0, here.output
    found, expected = load(tmp_path / "wheel.nii.gz"), load(tmp_path / "checkout.nii.gz")
    assert same_grid(found, template) and np.allclose(found.data, expected.data, atol=1e-4)
    assert 1.0 < (found.data > 0).sum() * 27e-6 < 2.0, "a brain's volume, in litres"
    assert read_json(tmp_path / "wheel.json")["GeneratedBy"] == list(m2m.GENERATED_BY)


@pytest.mark.end_to_end
def test_the_environment_is_whole_and_names_the_extra_that_it_lacks(empty, environment, tmp_path):
    assert call(empty, environment, "m2m", "--version", cwd=tmp_path).stdout.strip() == m2m.__version__
    check = call(empty, environment, "python", "-m", "pip", "check", cwd=tmp_path)
    assert check.returncode == 0, check.stdout
    lacking = call(empty, environment, "m2m", "train", "--help", cwd=tmp_path)
    assert lacking.returncode == 1 and m2m.how_to_install("train") in lacking.stderr


@pytest.mark.end_to_end
def test_the_core_is_small_and_its_help_fast(empty, environment, tmp_path):
    (packages,) = empty.parents[1].glob("lib/python*/site-packages")
    assert not {"torch", "monai", "onnx"} & {path.name for path in packages.iterdir()}
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert size < 700e6, f"{size / 1e6:.0f} MB"
    call(empty, environment, "m2m", "--help", cwd=tmp_path)  # compiles
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert call(empty, environment, "m2m", "--help", cwd=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3, f"{min(seconds):.2f} s of the processor"


@pytest.mark.end_to_end
def test_the_containers_installation_runs(empty, environment, tmp_path):
    """Last of this file: it adds the extras to the environment that had none."""
    copy_of_the_sources(tmp_path / "m2m")
    for name in ("constraints.txt", "envs/container.sh"):
        (tmp_path / "m2m" / Path(name).name).write_bytes((ROOT / name).read_bytes())
    steps = [step.replace("/opt/m2m", str(tmp_path / "m2m")) for step in steps_of_docker()]
    of_python = [step for step in steps if shlex.split(step)[2] in {"python", "check"}]
    assert len(of_python) == 2 and "[workflow," in (ROOT / "envs/container.sh").read_text()
    path = {"PATH": f"{empty.parent}{os.pathsep}{environment['PATH']}"}
    script = "\n".join(["set -e", *of_python])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment | path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] in (ROOT / "constraints.txt").read_text()
