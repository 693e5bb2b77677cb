"""Whatever names, tables and texts a dataset has: no path leads out of the results, and each error is a finding."""

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m2m.cohort.checks import Checked
from m2m.cohort.findings import COLUMNS
from m2m.cohort.participants import check_participants, read_participants
from m2m.cohort.scans import name_problem
from m2m.cohort.validate import build_units
from m2m.io.bids import files_of, is_unit, require_name, slices_path, unit_folder, unit_name, unit_path
from m2m.io.dataset_links import uri
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.quoting import MOST_OF_PROBLEM, MOST_OF_VALUE, printable
from m2m.io.tables import read_table, write_table

# The same examples on every machine and in every run: thousands, of some microseconds each.
MANY = settings(derandomize=True, deadline=None, max_examples=2000)
FILES = settings(derandomize=True, deadline=None, max_examples=500)
# Names as attackers and accidents make them, beside any text (with lone surrogates, as of undecodable names).
PARTS = st.sampled_from(
    [
        "sub-",
        "ses-",
        "01",
        "_",
        "/",
        "..",
        ".",
        "~",
        "\\",
        "\n",
        "\x00",
        "{",
        "}",
        "$",
        "%",
        " ",
        "-",
        "ü",
        "\udc80",
        "%2e",
    ]
)
NAMES = st.lists(PARTS, max_size=8).map("".join) | st.text(st.characters(), max_size=20)
LABELS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
ROOT = "results/tiny"


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def require_below(path):
    """A path has no folder of its own making: it stays below the results on any system."""
    parts = str(path).removeprefix(f"{ROOT}/").split("/")
    assert str(path).startswith(f"{ROOT}/") and not {"", ".", ".."} & set(parts)
    assert all(c.isascii() and (c.isalnum() or c in "-_./") for c in str(path))


@MANY
@given(NAMES, NAMES)
@example("sub-x_.._.._.._tmp", "sub-x/../../../tmp")
@example("sub-1\n", "sub-1\n")
def test_a_path_of_any_unit_stays_below_the_results_or_is_refused(unit, folder):
    for make in (
        lambda: unit_path(ROOT, "t1w", unit_folder(unit), unit),
        lambda: unit_path(ROOT, "t1w", folder, unit),
        lambda: slices_path(ROOT, "axial.npy", folder, unit),
        lambda: files_of(unit, ROOT)("fa"),
        lambda: f"{ROOT}/models/{require_name(unit, 'task')}/{require_name(folder, 'model')}/model.json",
    ):
        try:
            path = make()
        except DataError as error:
            assert str(error) and len(str(error)) < 1000
        else:
            require_below(path)


@MANY
@given(LABELS, st.none() | LABELS)
def test_a_path_of_any_bids_label_is_made(subject, session):
    unit = unit_name(subject, session)
    assert is_unit(unit)
    require_below(unit_path(ROOT, "t1w", unit_folder(unit), unit))
    assert unit_folder(unit).replace("/", "_") == unit


@MANY
@given(st.text(st.characters(), max_size=2000), st.text(st.characters(), max_size=50))
def test_any_message_is_one_printable_line_of_bounded_length(text, file):
    error = DataError(text, file=file, value=text)
    for part, most in ((error.problem, MOST_OF_PROBLEM), (error.value, MOST_OF_VALUE), (error.file, None)):
        assert printable(part) == part and len(part.splitlines()) <= 1
        # An escape has up to ten characters.
        assert most is None or len(part) <= 10 * most + 50
    str(error).encode("utf-8")


@MANY
@given(NAMES.filter(lambda name: "\x00" not in name), NAMES.filter(lambda name: "\x00" not in name))
def test_no_sidecar_names_a_path_of_this_machine(source, sidecar):
    for root in ("/data/alice/study", "results/tiny", "results/tiny/synthetic/t1-fa/mean"):
        for place in ("sub-1/dwi/sub-1_fa.nii.gz", sidecar):
            named = uri(f"/data/alice/a/b/c/d/e/f/raw/{source}", f"{root}/{place}")
            assert not named.startswith("/") and "alice" not in named


@MANY
@given(NAMES, st.none() | NAMES, st.none() | NAMES, st.sampled_from(["T1w", "dwi"]))
def test_a_scan_of_any_name_is_a_row_of_the_table_and_not_a_path(participant, session, name, suffix):
    subject = f"sub-{participant}"
    path = "/".join(filter(None, ("ds", subject, session, "anat", f"{subject}_{name or ''}{suffix}.nii.gz")))
    row = {"participant_id": subject, "session_id": session, "suffix": suffix, "path": path}
    row |= dict.fromkeys(("bval", "bvec", "mask", "json"))
    problem = name_problem(row)
    checked = {path: Checked((problem,) if problem else (), 6)}
    (unit,), findings = build_units([row], checked, {}, {})
    assert unit["folder"] is None or unit["folder"] == unit_folder(str(unit["unit"]))
    assert unit["folder"] is not None or unit["state"] == "failed"
    for found in findings:
        assert found.problem and printable(found.value) == found.value


TABLES = st.text(st.sampled_from("participant_id\tage\nsub-01\r\"'n/a,;-9.e\ufeff\x00\x0b\u2028ü"), max_size=120)


@FILES
@given(TABLES | st.text(max_size=60), st.booleans())
@example("participant_id\tage\nsub-1\t1e999\n", False)
@example('participant_id\tage\nsub-1\t"3\n', False)
@example("participant_id\nsub-1\t4\t5\n", False)
@example("participant_id\tage\nsub-1\tnan\n", False)
def test_any_table_of_participants_is_read_or_refused_with_a_reason(folder, text, heading):
    path = folder / "participants.tsv"
    path.write_text(("participant_id\tage\n" if heading else "") + text, encoding="utf-8", newline="")
    try:
        subjects = read_participants(path)
    except DataError as error:
        assert error.problem and error.remedy and len(str(error)) < 3000
        return
    for require in ((), ("age",)):
        for problems in check_participants(subjects, ["sub-01"], require, path).values():
            for severity, error in problems:
                assert severity in ("error", "note") and error.remedy and printable(error.value) == error.value


@FILES
@given(st.binary(max_size=200))
def test_any_bytes_for_a_table_or_a_json_file_are_read_or_refused(folder, content):
    path = folder / "bytes"
    path.write_bytes(content)
    try:
        read_participants(path)
    except DataError as error:
        assert error.remedy
    try:
        assert isinstance(read_json(path), dict)
    except ValueError as error:
        assert len(str(error)) < 500


@FILES
@given(st.lists(st.tuples(*[st.text(st.characters(), max_size=30)] * 3), max_size=4))
def test_any_finding_is_written_to_the_table_and_read_again(folder, texts):
    found = [DataError(problem, file=file, value=value) for problem, file, value in texts]
    rows = [{"problem": one.problem, "file": one.file, "value": one.value} for one in found]
    write_table(folder / "status.tsv", rows, COLUMNS)
    again = read_table(folder / "status.tsv")
    assert [{key: row[key] or "" for key in ("problem", "file", "value")} for row in again] == [
        {key: "" if value == "n/a" else value for key, value in row.items()} for row in rows
    ]
