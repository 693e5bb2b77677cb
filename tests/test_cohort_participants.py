"""The table of participants: missing values, unknown participants, contradictions, and exclusions."""

import pytest
from cohort_tree import add_dwi, add_t1, dataset, index_and_validate, write_rows

from m2m.cohort import split
from m2m.cohort.participants import known_participants, read_participants, read_with_findings
from m2m.downstream.targets import RefusedTarget, read_target
from m2m.io.errors import DataError


def subjects(path, *rows, columns=("participant_id", "age", "sex")):
    return write_rows(path / "participants.tsv", columns, *rows)


def test_age_missing_for_a_downstream_target_fails_the_participant(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03", "sub-04")
    table = subjects(tmp_path, ("sub-01", "30", "F"), ("02", "n/a", "F"), ("sub-03", "89+", "M"))
    units, findings = index_and_validate(root, tmp_path, table, require=["age"])
    assert {name: unit["state"] for name, unit in units.items()} == {
        "sub-01": "paired",
        "sub-02": "failed",
        "sub-03": "failed",
        "sub-04": "failed",
    }
    assert [(f["unit"], f["value"]) for f in findings] == [("sub-02", None), ("sub-03", "89+"), ("sub-04", "sub-04")]
    assert all(f["file"] == str(table) and f["remedy"] for f in findings)
    units, _ = index_and_validate(root, tmp_path, table)
    assert {unit["state"] for unit in units.values()} == {"paired"}


def test_participants_without_scans_and_scans_without_participants_are_noted(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    units, findings = index_and_validate(root, tmp_path, subjects(tmp_path, ("01", "30", "F"), ("77", "30", "M")))
    assert [(f["unit"], f["problem"], f["severity"]) for f in findings] == [
        ("sub-02", "not in participants.tsv", "note"),
        ("sub-77", "no scan of this participant", "note"),
    ]
    assert list(units) == ["sub-01", "sub-02"]


def test_a_participant_twice_in_the_table_fails_only_if_the_rows_contradict(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    same, other = ("sub-01", "30", "F"), ("sub-02", "40", "M")
    table = subjects(tmp_path, same, same, other, ("02", "41", "M"))
    units, findings = index_and_validate(root, tmp_path, table)
    assert (units["sub-01"]["state"], units["sub-02"]["state"]) == ("paired", "failed")
    assert [(f["severity"], f["value"]) for f in findings] == [
        ("note", "2 rows"),
        ("error", "2 rows, which differ in age"),
    ]


def test_tables_that_cannot_be_used_are_named(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    with pytest.raises(DataError, match=r"no column participant_id.*sep\.tsv"):
        index_and_validate(root, tmp_path, write_rows(tmp_path / "sep.tsv", ["participant_id,age"]))
    with pytest.raises(DataError, match="cannot be read"):
        index_and_validate(root, tmp_path, tmp_path / "nowhere.tsv")


def test_the_users_labels_and_exclusions_select_participants(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    (root / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    table = write_rows(tmp_path / "out.tsv", ("participant_id", "reason"), ("02", "motion"), ("sub-88", "typo"))
    units, findings = index_and_validate(root, tmp_path, participant_label=["01", "02", "99"], exclude=table)
    assert list(units) == ["sub-01", "sub-02"]
    assert (units["sub-02"]["state"], units["sub-02"]["reason"]) == ("excluded", "motion")
    assert units["sub-02"]["dwi"] is None
    assert [(f["unit"], f["severity"]) for f in findings] == [
        ("sub-88", "note"),
        ("sub-99", "note"),
    ]


TABLES = {
    "a quote that is not closed": ('participant_id\tage\nsub-01\t"30\nsub-02\t40\n', "quote is not closed", "sub-01"),
    "more values than columns": ("participant_id\tage\nsub-01\t30\tF\nsub-02\t40\n", "more values than", "sub-01"),
    "a column twice": ("participant_id\tage\tage\nsub-01\t30\t31\n", "same name", "age"),
    "commas for tabs": ("participant_id,age\nsub-01,30\n", "no column participant_id", ","),
    "empty": ("", "no column participant_id", "[]"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_whose_rows_do_not_fit_is_refused_with_the_row(tmp_path, kind):
    text, problem, value = TABLES[kind]
    root, table = dataset(tmp_path / "ds", "sub-01", "sub-02"), tmp_path / "participants.tsv"
    table.write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        index_and_validate(root, tmp_path, table)
    assert value in caught.value.value and caught.value.file == str(table) and caught.value.remedy


def test_a_table_in_another_encoding_is_refused(tmp_path):
    root, table = dataset(tmp_path / "ds", "sub-01"), tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\nsub-01\t30\n", encoding="utf-16")
    with pytest.raises(DataError, match="cannot be read"):
        index_and_validate(root, tmp_path, table)


def test_a_spreadsheets_byte_order_mark_and_line_ends_do_no_harm(tmp_path):
    root, table = dataset(tmp_path / "ds", "sub-01"), tmp_path / "participants.tsv"
    table.write_bytes(b"\xef\xbb\xbfparticipant_id\tage\t\r\nsub-01\t30\t\r\n")
    units, findings = index_and_validate(root, tmp_path, table, require=["age"])
    assert units["sub-01"]["state"] == "paired" and findings == []


@pytest.mark.parametrize("age", ["thirty", "999", "-1"])
def test_implausible_ages_are_noted_and_counted_as_unknown_in_the_split(tmp_path, age):
    names = [f"sub-{i:02d}" for i in range(6)]
    root = dataset(tmp_path / "ds", *names)
    table = subjects(tmp_path, *((name, age, "F") for name in names))
    units, findings = index_and_validate(root, tmp_path, table)
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert {(f["severity"], f["problem"], f["value"]) for f in findings} == {
        ("note", "age is not a number of years from 0 to 120", age)
    }
    parts = divided(tmp_path, table)
    assert sorted(parts.values()) == ["test"] * 2 + ["train"] * 3 + ["validation"]
    assert {row["age"] for row in known_participants(table).values()} == {None}


@pytest.mark.parametrize("sex", ["F", "n/a"])
def test_one_sex_or_an_empty_column_is_split_and_refused_as_a_phenotype(tmp_path, sex):
    names = [f"sub-{i:02d}" for i in range(6)]
    root = dataset(tmp_path / "ds", *names)
    table = subjects(tmp_path, *((name, str(30 + i), sex) for i, name in enumerate(names)))
    _, findings = index_and_validate(root, tmp_path, table)
    assert findings == []
    assert sorted(divided(tmp_path, table).values()).count("test") == 2
    rows = {name: known[0] for name, known in read_participants(table).items()}
    with pytest.raises(RefusedTarget, match="does not vary"):
        read_target("sex", "classification", names, rows, 2)


def divided(folder, table):
    """Part of each participant, as `m2m split` makes it."""
    split.main(folder / "units.tsv", folder / "split.tsv", folder / "split.json", table)
    return split.part_by_participant(split.load_split(folder / "split.tsv", folder / "split.json"))


# -- spellings ----------------------------------------------------------------------------------------


def read(path, columns, *rows):
    """A table's rows by participant, and its findings as problem and value."""
    table = write_rows(path / "participants.tsv", ("participant_id", *columns), *rows)
    known, findings = read_with_findings(table)
    return {name: rows[0] for name, rows in known.items()}, {f.problem: f.value for f in findings}


def numbered(*values):
    """Rows of one value each."""
    return [(f"sub-{i:03d}", value) for i, value in enumerate(values)]


def column(rows, name):
    return [row[name] for row in rows.values()]


def test_spellings_of_missing_values_and_of_sexes_are_read_as_one_and_named(tmp_path):
    spellings = ["M", "m", "Male", "M ", "F", "f", "Female", "-", "NA", "N/A", "nan", "U"] * 20
    rows, findings = read(tmp_path, ["sex"], *numbered(*spellings))
    target = read_target("sex", "classification", list(rows), rows, 5)
    assert (target.classes, target.n_missing) == (("F", "M", "U"), 80)
    assert [list(target.y).count(i) for i in range(3)] == [60, 80, 20]
    assert findings["sex: read as missing"] == "- (20), NA (20), N/A (20), nan (20)"
    assert findings["sex: spellings are read as one"] == "m (20) as M, Male (20) as M, f (20) as F, Female (20) as F"


def test_a_number_far_from_all_others_that_stands_for_missing_is_none(tmp_path):
    rows, findings = read(tmp_path, ["score"], *numbered("100", "110", "-999", "999", "95", "n/a"))
    target = read_target("score", "regression", list(rows), rows, 2)
    assert (sorted(target.y), target.n_missing) == ([95, 100, 110], 3)
    assert findings == {"score: read as missing, being far from all other values": "-999 (1), 999 (1)"}
    rows, findings = read(tmp_path, ["reaction_ms"], *numbered("700", "999", "1400"))
    assert column(rows, "reaction_ms") == ["700", "999", "1400"] and not findings


@pytest.mark.parametrize(("heading", "name"), [("Age", "age"), ("AGE", "age"), ("Gender", "sex"), ("Sex", "sex")])
def test_headings_in_other_case_are_read_and_named(tmp_path, heading, name):
    rows, findings = read(tmp_path, [heading], ("sub-01", "1"), ("sub-02", "2"))
    assert column(rows, name) == ["1", "2"]
    assert findings[f"column is read as {name}"] == heading
    if name == "age":
        assert read_target(heading, "regression", list(rows), rows, 2).y.tolist() == [1, 2]


def test_a_heading_in_other_case_leaves_the_column_of_that_name(tmp_path):
    rows, findings = read(tmp_path, ["Gender", "sex"], ("sub-01", "woman", "F"))
    assert rows["sub-01"] == {"participant_id": "sub-01", "Gender": "woman", "sex": "F"} and not findings


def test_codes_of_sex_are_read_by_the_levels_beside_the_table_and_else_kept(tmp_path):
    rows, findings = read(tmp_path, ["sex"], *numbered("1", "2", "1"))
    assert column(rows, "sex") == ["1", "2", "1"]
    assert findings == {"sex: values are not known, and kept as they are": "1 (2), 2 (1)"}
    (tmp_path / "participants.json").write_text('{"sex": {"Levels": {"1": "male", "2": {"Description": "Female"}}}}')
    rows, findings = read(tmp_path, ["sex"], *numbered("1", "2", "1"))
    assert column(rows, "sex") == ["M", "F", "M"] and list(findings) == ["sex: spellings are read as one"]


@pytest.mark.parametrize(
    ("cells", "read_as"),
    [
        (["23,5", "31,25", "40"], ["23.5", "31.25", "40"]),  # decimal commas
        (["1,234", "2,345"], ["1,234", "2,345"]),  # thousands
        (["+", "-", "n/a"], ["+", "-", None]),  # a minus beside a plus is a result
        (["none", "None", "aspirin"], ["none", None, "aspirin"]),
        (["0", "1", "."], ["0", "1", None]),
    ],
)
def test_cells_are_read_as_they_are_meant(tmp_path, cells, read_as):
    rows, findings = read(tmp_path, ["x"], *numbered(*cells))
    assert column(rows, "x") == read_as
    assert bool(findings) == (read_as != cells and cells[0] != "+")


def test_each_reading_is_a_note_of_the_cohort(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    table = subjects(tmp_path, ("sub-01", "30", "m"), ("sub-02", "NA", "M"), columns=("participant_id", "Age", "sex"))
    units, findings = index_and_validate(root, tmp_path, table, require=["Age"])
    assert (units["sub-01"]["state"], units["sub-02"]["state"]) == ("paired", "failed")
    notes = {f["problem"]: (f["unit"], f["severity"], f["value"]) for f in findings if f["severity"] == "note"}
    assert notes == {
        "column is read as age": ("cohort", "note", "Age"),
        "age: read as missing": ("cohort", "note", "NA (1)"),
        "sex: spellings are read as one": ("cohort", "note", "m (1) as M"),
    }


def test_ages_of_the_sessions_that_take_part_replace_those_of_the_table(tmp_path):
    root = dataset(tmp_path / "ds", "sub-02")
    add_t1(root, "sub-01", "ses-a")
    for session in ("ses-b", "ses-c"):
        add_t1(root, "sub-01", session)
        add_dwi(root, "sub-01", session)
    rows = [("ses-a", "20"), ("ses-b", "30"), ("c", "31")]
    write_rows(root / "sub-01" / "sub-01_sessions.tsv", ("session_id", "age"), *rows)
    table = subjects(root, ("sub-01", "19", "F"), ("sub-02", "50", "F"))
    _, findings = index_and_validate(root, tmp_path, table)
    (note,) = (f for f in findings if "sessions.tsv" in f["problem"])
    assert (note["unit"], note["value"]) == ("cohort", "1 participants, such as sub-01")
    divided(tmp_path, table)
    ages = {
        row["participant_id"]: row["age"] for row in split.load_split(tmp_path / "split.tsv", tmp_path / "split.json")
    }
    assert ages == {"sub-01": "30.5", "sub-02": "50"}
