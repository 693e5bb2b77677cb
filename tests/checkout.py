"""The checkout under test: its root, its project table, its files, and the wheel made of them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked():
    """Files of the repository, as git lists them."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0")[:-1] if (path := ROOT / name).is_file()]


def copy_of_the_sources(folder):
    """Copy what a wheel is made of, as git lists it: a build leaves files beside its sources."""
    for path in tracked():
        name = path.relative_to(ROOT)
        if name.parts[0] == "m2m" or name.as_posix() in {"pyproject.toml", "README.md", "LICENSE"}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
    return folder


def build_wheel(folder, further=None):
    """Build the wheel with the environment's own setuptools, without a network.

    `further` are texts of files that the sources do not have, by name.
    """
    sources = copy_of_the_sources(folder / "sources")
    for name, text in (further or {}).items():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(text)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel
