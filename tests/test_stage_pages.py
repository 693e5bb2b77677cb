"""The pages of the stages are what the code says now, and say what a participant looks for."""

import runpy
from pathlib import Path

import pytest

from m2m import cli
from m2m.options import Config
from m2m.options.section import Section

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "stages"


@pytest.fixture(scope="module")
def pages():
    """What `make docs` would write now."""
    return runpy.run_path(str(ROOT / "docs" / "stages.py"))["pages"]()


def test_the_committed_pages_are_those_that_make_docs_writes(pages):
    committed = {path.relative_to(PAGES).as_posix(): path.read_text() for path in PAGES.rglob("*.md")}
    assert committed.keys() == pages.keys(), "run `make docs`"
    stale = [name for name, text in pages.items() if committed[name] != text]
    assert not stale, "run `make docs`"


def test_each_command_has_a_page_that_the_index_names(pages):
    named = {name: f"{cli.phase(name)}/{name}.md" for name in cli.COMMANDS}
    assert pages.keys() == {*named.values(), "README.md"}
    assert all(f"({path})" in pages["README.md"] for path in named.values())


def test_a_page_has_the_rule_the_flags_the_options_and_the_citations(pages):
    page = pages["diffusion/dti.md"]
    assert "| dti | shard | DWI | mask, FA, MD, AD, RD, V1, tensor, mean b0 |" in page
    assert "| `--bvec` | yes | Directions, FSL format |" in page
    assert "| `fit` | `WLS`, `OLS`, `NLLS`, `RESTORE` | `WLS` |" in page
    assert "| `bet_fraction` | number | `0.3` | ≥ 0; ≤ 1 |" in page, "of the section inside it"
    assert "Basser et al. (1994)" in page and "Otsu (1979)" in page
    assert "Kellner" not in page, "of a chain that another stage calls"


def test_every_flag_says_what_it_is(pages):
    silent = {name: row for name, text in pages.items() for row in text.split("\n") if "None" in row}
    assert not silent


def test_every_section_of_the_configuration_is_on_a_page(pages):
    text = "\n".join(pages.values())
    single = {name for name, field in Config.model_fields.items() if is_section(field.annotation)}
    assert {"dti", "anat", "evaluation"} <= single
    assert not [n for n in single | {"models", "tasks"} if f"## Options: `{n}`" not in text]


def is_section(annotation):
    """Whether an option is a section of its own."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
