"""What is handed out: a name of its own, a wheel that is whole, and how to install it."""

import re
import zipfile
from pathlib import Path

import pytest
from checkout import PROJECT, ROOT, build_wheel, tracked

import m2m
from m2m.translate.packing import FILES

# `m2m` on PyPI is a stranger's code, and the own name is not published yet.
# Named so, since no text of this repository should read as a call for it.
OTHER = "m2m"
FROM_AN_INDEX = re.compile(
    r"pip3? install(?: -[\w-]+(?:[= ][^\s'\"-]\S*)?| '[^']+')* ['\"]?"
    rf"(?:m2m|{m2m.DISTRIBUTION})(?![\w/.-])"
)


def test_the_distribution_has_the_name_that_messages_give():
    assert PROJECT["name"] == m2m.DISTRIBUTION != "m2m"
    assert PROJECT["scripts"] == {"m2m": "m2m.cli:app"}
    assert m2m.DISTRIBUTION in m2m.how_to_install("report")
    assert all(f"'.[{extra}]'" in m2m.how_to_install(extra) for extra in PROJECT["optional-dependencies"])


@pytest.mark.parametrize(
    "line",
    [
        f"pip install {OTHER}",
        f"`pip install {OTHER}`",
        f"pip install '{OTHER}[report]'",
        "python -m pip install --quiet --constraint constraints.txt m2m==0.1.0",
        "pip install -e '.[dev]' m2m",
        "pip3 install macro2micro-mri",
    ],
)
def test_an_installation_from_an_index_is_recognised(line):
    assert FROM_AN_INDEX.search(line)


def test_no_file_installs_what_another_project_named_m2m():
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.suffix not in {".png", ".gif", ".gz"} and path != Path(__file__)
        for match in FROM_AN_INDEX.finditer(path.read_text(encoding="utf-8", errors="ignore"))
    }
    assert not found


# What weights are made of, whichever are shipped now.
FURTHER = {f"m2m/weights/another/{name}": name for name in FILES}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"), FURTHER)


def test_the_wheel_holds_every_file_of_the_package_and_of_its_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = f"{m2m.DISTRIBUTION.replace('-', '_')}-{m2m.__version__}.dist-info/"
    of_the_package = {path.relative_to(ROOT).as_posix() for path in tracked() if ROOT / "m2m" in path.parents}
    assert {name for name in names if not name.startswith(information)} == of_the_package | set(FURTHER)
    assert {"m2m/py.typed", "m2m/report/templates/report.html.j2", "m2m/weights/bundles/LICENSE"} <= of_the_package
    assert {f"{information}licenses/LICENSE", f"{information}licenses/m2m/weights/bundles/LICENSE"} <= names
    assert {f"{information}entry_points.txt"} <= names
