"""The site of the documentation: where its links lead, and what its API shows.

`make site` builds it, where a warning is an error.
"""

import runpy
from pathlib import Path

import pytest

from m2m.models import record
from m2m.structural import anat

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def configuration():
    """Names that docs/conf.py defines."""
    return runpy.run_path(str(ROOT / "docs" / "conf.py"))


@pytest.mark.parametrize(
    ("link", "page", "there"),
    [
        ("../README.md", "tutorial.md", "/index.md"),
        ("../README.md", "stages/train/train.md", "../README.md"),  # the list of stages
        ("../../../m2m/train/loop.py", "stages/train/train.md", "#m2m.train.loop"),
        ("../../../m2m/train/__init__.py", "stages/train/train.md", "#m2m.train"),
        ("../benchmarks/field.md", "methods.md", "path:../benchmarks/field.md"),
        ("data.md#input", "tutorial.md", "data.md#input"),
    ],
)
def test_a_link_of_the_repository_leads_to_its_page_of_the_site(configuration, link, page, there):
    assert configuration["to_the_site"](link, page) == there


def test_a_page_of_the_api_lists_every_module_of_its_room_and_the_rooms_inside(configuration):
    page = configuration["api_page"](ROOT / "m2m" / "models")
    modules = {path.stem for path in (ROOT / "m2m" / "models").glob("*.py")} - {"__init__"}
    assert {f"m2m.models.{name}" for name in modules} | {"m2m.models"} == {
        line.removeprefix(".. automodule:: ") for line in page.splitlines() if line.startswith(".. automodule")
    }
    assert "\n   m2m.models.families\n" in page


def test_commands_are_left_to_the_pages_of_the_stages(configuration):
    def skips(member):
        return configuration["skips"](None, "module", "", member, False, None)

    assert skips(anat.main) and not skips(anat.prepare)
    assert skips(record.Fit.tensors) and not skips(record.Fit), "the class describes its fields"
