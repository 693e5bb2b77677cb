"""What every stage shares: records of bad data, atomic files, digests, tables."""

import json
from contextlib import suppress

import pytest
from pydantic import ValidationError

import m2m
from m2m.io.errors import DataError, Kept
from m2m.io.files import digest, file_digest, read_json, whole, write_json, write_text
from m2m.io.tables import read_table, write_table
from m2m.io.unit_status import MADE_BY, recorded, require_ok
from m2m.io.versions import VERSIONS
from m2m.options import Mask, Split
from m2m.options.section import parse_options


def test_bad_data_ends_in_a_record_and_empty_maps(tmp_path, capsys):
    status, fa = tmp_path / "status.json", tmp_path / "dwi" / "fa.nii.gz"
    error = DataError("has no b0", file="a.bval", value=3, remedy="acquire one")
    with recorded("dti", "sub-01", status, [fa]) as record:
        record["fa_mean"] = 0.3
        raise error
    written = read_json(status)
    assert (written["unit"], written["stage"], written["status"]) == ("sub-01", "dti", "failed")
    assert written["GeneratedBy"] == list(m2m.GENERATED_BY)
    assert written["finding"] == {
        "unit": "sub-01",
        "stage": "dti",
        "problem": "has no b0",
        "file": "a.bval",
        "value": "3",
        "remedy": "acquire one",
    }
    assert fa.read_bytes() == b""
    assert "sub-01: has no b0 (found 3) in a.bval; acquire one" in capsys.readouterr().out


def test_a_map_written_before_the_data_are_found_to_be_bad_is_emptied(tmp_path):
    fa = tmp_path / "fa.nii.gz"
    with recorded("dti", "sub-01", tmp_path / "status.json", [fa]):
        fa.write_bytes(b"half a result")
        raise DataError("has no signal")
    assert fa.read_bytes() == b""


def test_good_data_leave_their_numbers_in_the_record(tmp_path):
    status, fa = tmp_path / "status.json", tmp_path / "fa.nii.gz"
    with recorded("dti", "sub-01", status, [fa]) as record:
        record["fa_mean"] = 0.3
    assert read_json(status) == {
        "unit": "sub-01",
        "stage": "dti",
        "GeneratedBy": [{"Name": "m2m", "Version": m2m.__version__}],
        "status": "ok",
        "fa_mean": 0.3,
    }
    assert not fa.exists()


@pytest.fixture
def translated(tmp_path, monkeypatch):
    """Function that runs a stage for a T1, made by a version, and returns whether it did its work."""
    t1, fa, status = (tmp_path / name for name in ("t1.nii", "fa.nii", "status.json"))
    t1.touch()

    def call(made_by="2"):
        monkeypatch.setenv(MADE_BY, made_by)
        with suppress(Kept), recorded("translate", "sub-01", status, [fa], [t1]):
            fa.write_text("map")
            call.done += 1
        return call.done

    call.done = 0
    return call, t1, fa, status


def test_results_are_kept_while_inputs_and_what_makes_them_are_the_same(translated):
    call, t1, fa, _ = translated
    assert call() == 1 and call() == 1
    assert call("3") == 2 and call("3") == 2
    fa.unlink()
    assert call("3") == 3 and call("3") == 3
    t1.touch()
    assert call("3") == 3
    t1.write_text("another scan")
    assert call("3") == 4 and call("3") == 4
    t1.unlink()
    assert call("3") == 5 and call("3") == 6  # the stage says what is missing


def test_by_hand_and_after_a_failure_results_are_made_again(translated):
    call, _, _, status = translated
    assert call() == 1
    assert call("") == 2 and "made_by" not in read_json(status)
    assert call("") == 3
    write_json(status, read_json(status) | {"status": "failed"})
    assert call() == 4


def test_nan_among_the_numbers_is_an_error_not_a_record(tmp_path):
    status = tmp_path / "status.json"
    with pytest.raises(ValueError, match="JSON"), recorded("dti", "sub-01", status, []) as record:
        record["fa_mean"] = float("nan")
    assert not status.exists()


def test_a_failed_stage_passes_its_finding_to_the_next_ones(tmp_path):
    first, second = tmp_path / "dti.json", tmp_path / "grid.json"
    with recorded("dti", "sub-01", first, []):
        raise DataError("has no b0", file="a.bval", value=3, remedy="acquire one")
    with recorded("grid", "sub-01", second, []):
        require_ok(first)
    with pytest.raises(DataError) as caught:
        require_ok(second)
    error = caught.value
    assert error.problem == "stage dti failed: has no b0"
    assert (error.file, error.value, error.remedy) == ("a.bval", "3", "acquire one")


def test_every_earlier_status_must_be_ok(tmp_path):
    good, bad = tmp_path / "anat.json", tmp_path / "dti.json"
    write_json(good, {"status": "ok", "stage": "anat"})
    require_ok(good, good)
    with recorded("dti", "sub-01", bad, []):
        raise DataError("has no b0")
    with pytest.raises(DataError, match="stage dti failed: has no b0"):
        require_ok(good, bad)


def test_an_interrupted_writer_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "deep" / "fa.nii.gz"
    with pytest.raises(KeyboardInterrupt), whole(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    write_text(path, "old")
    with pytest.raises(OSError, match="disk"), whole(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_name_keeps_the_extensions(tmp_path):
    with whole(tmp_path / "fa.nii.gz") as temporary:
        assert temporary.suffixes[-2:] == [".nii", ".gz"]
        assert temporary.parent == tmp_path
        temporary.write_text("map")
    assert (tmp_path / "fa.nii.gz").read_text() == "map"


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest(Split(seed=3)) == digest(Split(seed=3).model_dump(mode="json"))
    # The first digits of `printf '{"a":1}' | sha256sum`.
    assert digest({"a": 1}) == "015abd7f5cc57a2d"


def test_a_file_digest_is_the_start_of_its_sha256(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert file_digest(path) == "e3b0c44298fc1c14"


def test_a_table_is_read_back_with_missing_values_as_none(tmp_path):
    path = tmp_path / "table.tsv"
    rows = [
        {"unit": "sub-01", "age": 31, "note": 'says "no"\tand stops'},
        {"unit": "sub-02", "age": None},
    ]
    write_table(path, rows, ["unit", "age", "note"])
    assert path.read_text().splitlines()[2] == "sub-02\tn/a\tn/a"
    assert read_table(path) == [
        {"unit": "sub-01", "age": "31", "note": 'says "no"\\tand stops'},
        {"unit": "sub-02", "age": None, "note": None},
    ]


def test_a_table_saved_by_a_spreadsheet_keeps_its_first_column(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_bytes("\ufeffparticipant_id\tage\r\nsub-01\t31\r\n".encode())
    assert read_table(path) == [{"participant_id": "sub-01", "age": "31"}]


def test_options_come_from_json_and_a_misspelt_one_is_named():
    assert parse_options(Mask, '{"method": "bet"}') == Mask(method="bet")
    with pytest.raises(ValidationError, match="methd"):
        parse_options(Mask, '{"methd": "bet"}')


def test_options_are_unchanged_by_the_command_line():
    section = Split(seed=7, test=0.2)
    assert parse_options(Split, section.model_dump_json()) == section


def test_a_data_error_states_problem_file_and_remedy():
    error = DataError("has no b0", file="a.bval", value=3, remedy="acquire one")
    assert str(error) == "has no b0 (found 3) in a.bval; acquire one"
    assert str(DataError("has no b0")) == "has no b0"


def test_json_is_written_with_a_final_newline_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("\n")
    assert read_json(tmp_path / "a.json") == json.loads(text) == {"a": [1, None]}


def test_versions_are_positive_integers():
    assert all(isinstance(v, int) and v > 0 for v in VERSIONS.values())
