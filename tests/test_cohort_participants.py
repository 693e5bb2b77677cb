"""The table of participants: missing values, strangers, contradictions, and the user's choices."""

import pytest
from cohort_tree import dataset, judge, write_rows

from m2m.cohort import split
from m2m.cohort.participants import known_people, read_people
from m2m.downstream.targets import RefusedTarget, read_target
from m2m.io.errors import DataError


def people(path, *rows, columns=("participant_id", "age", "sex")):
    return write_rows(path / "participants.tsv", columns, *rows)


def test_age_missing_for_a_downstream_target_fails_the_person(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03", "sub-04")
    table = people(tmp_path, ("sub-01", "30", "F"), ("02", "n/a", "F"), ("sub-03", "89+", "M"))
    units, findings = judge(root, tmp_path, table, require=["age"])
    assert {name: unit["state"] for name, unit in units.items()} == {
        "sub-01": "paired", "sub-02": "failed", "sub-03": "failed", "sub-04": "failed",
    }  # fmt: skip
    assert [(f["unit"], f["value"]) for f in findings] == [
        ("sub-02", None), ("sub-03", "89+"), ("sub-04", "sub-04"),
    ]  # fmt: skip
    assert all(f["file"] == str(table) and f["remedy"] for f in findings)
    units, _ = judge(root, tmp_path, table)
    assert {unit["state"] for unit in units.values()} == {"paired"}


def test_people_without_scans_and_scans_without_people_are_noted(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    units, findings = judge(root, tmp_path, people(tmp_path, ("01", "30", "F"), ("77", "30", "M")))
    assert [(f["unit"], f["problem"], f["severity"]) for f in findings] == [
        ("sub-02", "not in participants.tsv", "note"),
        ("sub-77", "no scan of this participant", "note"),
    ]
    assert list(units) == ["sub-01", "sub-02"]


def test_a_person_twice_in_the_table_fails_only_if_the_rows_contradict(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    same, other = ("sub-01", "30", "F"), ("sub-02", "40", "M")
    table = people(tmp_path, same, same, other, ("02", "41", "M"))
    units, findings = judge(root, tmp_path, table)
    assert (units["sub-01"]["state"], units["sub-02"]["state"]) == ("paired", "failed")
    assert [(f["severity"], f["value"]) for f in findings] == [
        ("note", "2 rows"),
        ("error", "2 rows, which differ in age"),
    ]


def test_tables_that_cannot_be_used_are_named(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    with pytest.raises(DataError, match=r"no column participant_id.*sep\.tsv"):
        judge(root, tmp_path, write_rows(tmp_path / "sep.tsv", ["participant_id,age"]))
    with pytest.raises(DataError, match="cannot be read"):
        judge(root, tmp_path, tmp_path / "nowhere.tsv")


def test_the_users_labels_and_exclusions_decide_who_is_looked_at(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    (root / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    table = write_rows(
        tmp_path / "out.tsv", ("participant_id", "reason"), ("02", "moved"), ("sub-88", "typo")
    )
    units, findings = judge(root, tmp_path, participant_label=["01", "02", "99"], exclude=table)
    assert list(units) == ["sub-01", "sub-02"]
    assert (units["sub-02"]["state"], units["sub-02"]["reason"]) == ("excluded", "moved")
    assert units["sub-02"]["dwi"] is None
    assert [(f["unit"], f["severity"]) for f in findings] == [
        ("sub-88", "note"),
        ("sub-99", "note"),
    ]


TABLES = {
    "a quote that is not closed": (
        'participant_id\tage\nsub-01\t"30\nsub-02\t40\n', "quote is not closed", "sub-01"),
    "more values than columns": (
        "participant_id\tage\nsub-01\t30\tF\nsub-02\t40\n", "more values than", "sub-01"),
    "a column twice": ("participant_id\tage\tage\nsub-01\t30\t31\n", "same name", "age"),
    "commas for tabs": ("participant_id,age\nsub-01,30\n", "no column participant_id", ","),
    "empty": ("", "no column participant_id", "[]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_whose_rows_do_not_fit_is_refused_with_the_row(tmp_path, kind):
    text, problem, value = TABLES[kind]
    root, table = dataset(tmp_path / "ds", "sub-01", "sub-02"), tmp_path / "participants.tsv"
    table.write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        judge(root, tmp_path, table)
    assert value in caught.value.value and caught.value.file == str(table) and caught.value.remedy


def test_a_table_in_another_encoding_is_refused(tmp_path):
    root, table = dataset(tmp_path / "ds", "sub-01"), tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\nsub-01\t30\n", encoding="utf-16")
    with pytest.raises(DataError, match="cannot be read"):
        judge(root, tmp_path, table)


def test_a_spreadsheets_mark_and_line_ends_do_no_harm(tmp_path):
    root, table = dataset(tmp_path / "ds", "sub-01"), tmp_path / "participants.tsv"
    table.write_bytes(b"\xef\xbb\xbfparticipant_id\tage\t\r\nsub-01\t30\t\r\n")
    units, findings = judge(root, tmp_path, table, require=["age"])
    assert units["sub-01"]["state"] == "paired" and findings == []


@pytest.mark.parametrize("age", ["thirty", "999", "-1"])
def test_ages_that_nobody_has_are_noted_and_counted_as_unknown_in_the_split(tmp_path, age):
    names = [f"sub-{i:02d}" for i in range(6)]
    root = dataset(tmp_path / "ds", *names)
    table = people(tmp_path, *((name, age, "F") for name in names))
    units, findings = judge(root, tmp_path, table)
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert {(f["severity"], f["problem"], f["value"]) for f in findings} == {
        ("note", "age is not a number of years from 0 to 120", age)
    }
    parts = divided(tmp_path, table)
    assert sorted(parts.values()) == ["test"] * 2 + ["train"] * 3 + ["validation"]
    assert {row["age"] for row in known_people(table).values()} == {None}


@pytest.mark.parametrize("sex", ["F", "n/a"])
def test_one_sex_or_an_empty_column_is_split_and_refused_as_a_phenotype(tmp_path, sex):
    names = [f"sub-{i:02d}" for i in range(6)]
    root = dataset(tmp_path / "ds", *names)
    table = people(tmp_path, *((name, str(30 + i), sex) for i, name in enumerate(names)))
    _, findings = judge(root, tmp_path, table)
    assert findings == []
    assert sorted(divided(tmp_path, table).values()).count("test") == 2
    rows = {name: known[0] for name, known in read_people(table).items()}
    with pytest.raises(RefusedTarget, match="does not vary"):
        read_target("sex", "classification", names, rows, 2)


def divided(folder, table):
    """Part of each person, as `m2m split` makes it."""
    split.main(folder / "units.tsv", folder / "split.tsv", folder / "split.json", table)
    return split.part_by_participant(split.load_split(folder / "split.tsv", folder / "split.json"))
