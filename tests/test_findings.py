"""Every text of a finding has a code, every code its page; tables, status and report lead to it."""

import ast
import re
from pathlib import Path

import pytest
from finding_texts import FURTHER, PACKAGE, of_module, texts

from m2m.cohort import status
from m2m.cohort.finding_codes import PAGE, code_of, codes_of, codes_of_unit, explanations
from m2m.cohort.findings import finding, write_findings
from m2m.io.errors import DataError, unexpected
from m2m.io.tables import read_table

ROOT = Path(__file__).parents[1]
# A text with a semicolon of its own.
AGES = "age is that of sessions.tsv, at the scan; the mean where several sessions take part"


def test_every_text_of_a_finding_has_one_code_and_every_code_has_texts_that_the_package_has():
    explained = [problem for one in explanations().values() for problem in one.problems]
    assert len(explained) == len(set(explained))
    assert set(explained) == texts(), "m2m/cohort/findings.toml"
    for text, module in FURTHER.items():
        assert max(text.split("{}"), key=len) in (PACKAGE / module).read_text()


def test_every_code_has_its_page_and_every_page_its_code():
    sections = re.findall(r"^## (\S+)$", (ROOT / PAGE).read_text(), re.M)
    assert sections == list(explanations()), "run `make docs`"


def test_a_new_text_would_be_missed():
    module = ast.parse('def f(x):\n    raise DataError(f"has {x} heads" if x else "has no head", file="a")')
    assert set(of_module(module)) == {"has {} heads", "has no head"}


@pytest.mark.parametrize("code", explanations())
def test_each_text_as_it_is_filled_in_leads_to_its_own_code(code):
    for problem in explanations()[code].problems:
        filled = problem.replace("{}", "3.5 of a/b")
        assert code_of(filled) == code_of(f"stage dti failed: {filled}") == code


@pytest.mark.parametrize(
    ("reason", "codes"),
    [
        ("no T1w in the dataset; DWI: bval is missing", ["missing-scan", "file-missing"]),
        ("stage dti failed: T1w: image is all zero, or all one value", ["voxel-values"]),
        ("mean FA 0.050 is outside 0.1 to 0.45; shift of 41.0 mm exceeds 30 mm", ["mean-fa", "registration-shift"]),
        (AGES, ["participants-values"]),
        ("an older version's text", []),
        ("", []),
    ],
)
def test_reasons_that_are_joined_have_the_codes_of_each(reason, codes):
    assert codes_of(reason) == codes


def test_the_users_table_gives_its_own_reasons():
    row = {"state": "excluded", "stage": "validate", "reason": "bval is missing"}
    assert codes_of_unit(row) == ["exclusion-table"]
    assert codes_of_unit(row | {"state": "failed"}) == ["file-missing"]


def test_a_finding_in_the_table_has_its_code(tmp_path):
    found = [finding("sub-01", DataError("bvec is missing")), finding("sub-02", unexpected(ValueError("x: y")))]
    write_findings(tmp_path / "t.tsv", found)
    assert [(row["unit"], row["code"]) for row in read_table(tmp_path / "t.tsv")] == [
        ("sub-01", "file-missing"),
        ("sub-02", "unexpected"),
    ]


def test_the_status_leads_from_each_reason_to_its_page():
    rows = [
        {"state": "failed", "why": "dti: bval is missing"},
        {"state": "excluded", "why": "validate: by consent"},
        {"state": "waiting", "why": "dti has not run"},
    ]
    lines = status._explained(rows, [{"problem": "image is all zero, or all one value"}, {}])
    named = ["file-missing", "voxel-values", "exclusion-table"]
    assert [line.split()[0] for line in lines[1:]] == named
    assert [line.rpartition(" ")[2] for line in lines[1:]] == [f"{PAGE}#{code}" for code in named]
    assert status._explained(rows[2:], []) == []
