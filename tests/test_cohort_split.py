"""The split never divides participants or families, meets the fractions, and detects changes."""

import json
import random
from collections import Counter

import pytest
from cohort_tree import write_rows

from m2m.cohort import folds as folding
from m2m.cohort import split
from m2m.cohort.folds import fold_participants, load_folds, split_of_fold
from m2m.cohort.split import (
    PARTS,
    load_split,
    part_by_participant,
    part_sizes,
    split_participants,
)
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.tables import read_table, write_table
from m2m.options import Split


def crowd(n, families=0, sites=1, seed=0):
    """Participants of all ages, both sexes, several sites; some in families."""
    rng = random.Random(seed)
    return [
        {
            "participant_id": f"sub-{i:03d}",
            "family_id": f"f{rng.randrange(families)}" if families else None,
            "site": f"site{i % sites}",
            "age": str(rng.randint(20, 80)),
            "sex": "FM"[i % 2],
        }
        for i in range(n)
    ]


def in_order(sizes):
    """Sizes of the parts, in the order of `PARTS`."""
    return tuple(sizes[part] for part in PARTS)


def members(rows):
    """Identifiers by part."""
    return {part: {r["participant_id"] for r in rows if r["part"] == part} for part in PARTS}


@pytest.mark.parametrize("n", [8, 24, 99, 1000])
def test_fractions_are_met_exactly_where_no_participant_is_related(n):
    rows = split_participants(crowd(n, sites=3), Split(validation=0.125, test=0.33))
    count = Counter(row["part"] for row in rows)
    assert (count["validation"], count["test"]) == (round(n * 0.125), round(n * 0.33))
    assert len({row["participant_id"] for row in rows}) == n


@pytest.mark.parametrize(
    ("n", "sizes"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))]
)
def test_few_participants_are_used_for_training_then_test_then_validation(n, sizes):
    assert in_order(part_sizes(n, 0.125, 0.33)) == sizes
    count = Counter(row["part"] for row in split_participants(crowd(n), Split()))
    assert tuple(count[part] for part in PARTS) == sizes


def test_every_part_gets_a_participant_even_where_fractions_round_otherwise():
    assert in_order(part_sizes(3, 0.3, 0.6)) == (1, 1, 1)
    assert in_order(part_sizes(10, 0.0, 0.33)) == (7, 0, 3)


def test_no_family_is_divided_and_fractions_are_near():
    subjects = crowd(300, families=120)
    rows = split_participants(subjects, Split(validation=0.2, test=0.3))
    part_of = {}
    for row in rows:
        assert part_of.setdefault(row["family_id"], row["part"]) == row["part"]
    count = Counter(row["part"] for row in rows)
    assert count["test"] == pytest.approx(90, abs=6)
    assert count["validation"] == pytest.approx(60, abs=6)


def test_large_families_leave_no_part_empty():
    subjects = crowd(6)
    for row in subjects[:4]:
        row["family_id"] = "one"
    for seed in range(20):
        rows = split_participants(subjects, Split(seed=seed))
        assert all(members(rows).values())
        assert len({row["part"] for row in rows[:4]}) == 1


def test_ages_sexes_and_sites_are_alike_in_all_parts():
    rows = split_participants(crowd(600, sites=4), Split(validation=0.2, test=0.3))
    whole = [float(row["age"]) for row in rows]
    mean = sum(whole) / len(whole)
    for part in PARTS:
        inside = [row for row in rows if row["part"] == part]
        assert sum(float(row["age"]) for row in inside) / len(inside) == pytest.approx(mean, abs=1.5)
        assert sum(r["sex"] == "F" for r in inside) / len(inside) == pytest.approx(0.5, abs=0.03)
        sites = Counter(row["site"] for row in inside)
        assert len(sites) == 4
        assert max(sites.values()) - min(sites.values()) <= 3


def test_a_small_site_is_in_every_part_that_its_share_reaches():
    subjects = crowd(80) + [row | {"participant_id": f"sub-x{i}", "site": "small"} for i, row in enumerate(crowd(8))]
    for seed in range(10):
        rows = split_participants(subjects, Split(seed=seed, validation=0.25, test=0.25))
        parts = Counter(row["part"] for row in rows if row["site"] == "small")
        assert len(parts) == 3


def test_participants_of_the_sites_to_test_on_are_the_test_part_with_their_families():
    subjects = crowd(90, families=60, sites=3)
    rows = split_participants(subjects, Split(test_sites=["site1"], validation=0.1, test=0.8))
    related = {row["family_id"] for row in rows if row["site"] == "site1"}
    expected = {row["participant_id"] for row in rows if row["family_id"] in related}
    assert {row["site"] for row in rows if row["part"] == "test"} == {"site0", "site1", "site2"}
    assert {row["participant_id"] for row in rows if row["part"] == "test"} == expected
    assert {row["part"] for row in rows} == {"train", "validation", "test"}


@pytest.mark.parametrize(("sites", "lost"), [(["elsewhere"], "test on"), (["A", "B"], "train on")])
def test_sites_that_leave_a_part_empty_are_refused_with_those_that_there_are(sites, lost):
    subjects = [{"participant_id": f"sub-{i}", "site": "AB"[i % 2]} for i in range(8)]
    with pytest.raises(DataError, match=f"no participant to {lost}.*'A', 'B'"):
        split_participants(subjects, Split(test_sites=sites))


def test_the_seed_decides_and_the_order_of_the_table_does_not():
    subjects = crowd(60, families=50, sites=2)
    once = split_participants(subjects, Split(seed=1))
    assert split_participants(subjects[::-1], Split(seed=1)) == once
    assert split_participants(subjects, Split(seed=2)) != once
    assert once != sorted(once, key=lambda row: row["part"])


def test_every_participant_is_in_the_test_part_for_some_seed():
    subjects = crowd(7, sites=3)
    tested = set()
    for seed in range(60):
        tested |= members(split_participants(subjects, Split(seed=seed)))["test"]
    assert len(tested) == 7


def test_unknown_ages_sexes_and_families_do_no_harm():
    subjects = [{"participant_id": f"sub-{i}", "age": None, "sex": None} for i in range(9)]
    subjects[0]["age"] = "n.k."
    assert len(split_participants(subjects, Split())) == 9


@pytest.fixture
def made(tmp_path):
    """Run `m2m split` on two sessions of some and one scan of others."""
    rows = [
        {"unit": f"sub-{i}_ses-{s}", "participant_id": f"sub-{i}", "state": state}
        for i, state in enumerate(["paired"] * 8 + ["t1w-only", "dwi-only", "failed", "excluded"])
        for s in (1, 2)
    ]
    write_table(tmp_path / "units.tsv", rows, ["unit", "participant_id", "state"])
    subjects = write_rows(
        tmp_path / "participants.tsv",
        ("participant_id", "age", "handedness"),
        *((f"{i}", f"{20 + i}", "left") for i in range(12)),
    )
    paths = tmp_path / "split.tsv", tmp_path / "split.json"
    split.main(tmp_path / "units.tsv", *paths, subjects, json.dumps({"seed": 3}))
    return paths


def test_only_participants_with_both_scans_are_divided_once_each(made):
    rows = load_split(*made)
    assert [row["participant_id"] for row in rows] == [f"sub-{i}" for i in range(8)]
    assert list(rows[0]) == ["participant_id", "part", "age"]
    assert [row["age"] for row in rows] == [str(20 + i) for i in range(8)]
    record = read_json(made[1])
    assert record["counts"] == {"train": 4, "validation": 1, "test": 3}
    assert record["seed"] == 3
    assert Counter(part_by_participant(rows).values()) == record["counts"]


def test_an_edited_table_is_refused(made):
    table, record = made
    content = table.read_text()
    assert "\ttest\t" in content
    table.write_text(content.replace("\ttest\t", "\ttrain\t", 1))
    with pytest.raises(DataError, match=r"changed since it was made.*split\.tsv.*m2m split"):
        load_split(table, record)
    table.write_text(content)
    assert len(load_split(table, record)) == 8


def test_the_same_split_has_the_same_hash(made, tmp_path):
    again = tmp_path / "again.tsv", tmp_path / "again.json"
    split.main(tmp_path / "units.tsv", *again, tmp_path / "participants.tsv", '{"seed": 3}')
    assert again[0].read_bytes() == made[0].read_bytes()
    assert read_json(again[1])["hash"] == read_json(made[1])["hash"]


def test_a_cohort_without_pairs_gives_an_empty_split(tmp_path, capsys):
    rows = [{"unit": "sub-1", "participant_id": "sub-1", "state": "t1w-only"}]
    write_table(tmp_path / "units.tsv", rows, ["unit", "participant_id", "state"])
    paths = tmp_path / "split.tsv", tmp_path / "split.json"
    split.main(tmp_path / "units.tsv", *paths)
    assert load_split(*paths) == []
    assert "no participant in train" in capsys.readouterr().out


def test_folds_are_equal_and_no_family_is_in_two():
    subjects = crowd(120, families=50, sites=2)
    folds = fold_participants(subjects, 4, Split())
    assert set(folds) == {row["participant_id"] for row in subjects}
    assert all(24 <= n <= 36 for n in Counter(folds.values()).values())
    fold_of_family = {}
    for row in subjects:
        fold = folds[row["participant_id"]]
        assert fold_of_family.setdefault(row["family_id"], fold) == fold
    alone = fold_participants(crowd(103), 4, Split())
    assert sorted(Counter(alone.values()).values()) == [25, 26, 26, 26]


def test_ages_and_sexes_are_alike_in_all_folds():
    subjects = crowd(200)
    folds = fold_participants(subjects, 5, Split())
    for fold in "12345":
        inside = [row for row in subjects if folds[row["participant_id"]] == fold]
        assert sum(row["sex"] == "F" for row in inside) == pytest.approx(20, abs=2)
        assert sum(float(row["age"]) for row in inside) / 40 == pytest.approx(50, abs=4)


def test_every_participant_is_tested_in_one_fold_and_not_used_for_its_training():
    subjects = crowd(60, families=25)
    folds = fold_participants(subjects, 3, Split())
    for fold in "123":
        parts = members(split_of_fold(subjects, folds, fold, Split(validation=0.1, test=0.5)))
        assert parts["test"] == {subject for subject, k in folds.items() if k == fold}
        assert parts["validation"]
        assert not parts["test"] & (parts["train"] | parts["validation"])


def test_the_split_of_a_fold_is_hashed_like_the_main_split(tmp_path):
    subjects = crowd(12)
    write_table(tmp_path / "participants.tsv", subjects, list(subjects[0]))
    units = [{"participant_id": row["participant_id"], "state": "paired"} for row in subjects]
    write_table(tmp_path / "units.tsv", units, list(units[0]))
    table, record = tmp_path / "split.tsv", tmp_path / "split.json"
    split.main(tmp_path / "units.tsv", table, record, tmp_path / "participants.tsv")
    folding.main(3, tmp_path, table, record)
    folds = load_folds(tmp_path / "folds.tsv", tmp_path / "folds.json")
    for fold in "123":
        own = tmp_path / f"fold-{fold}" / "split.tsv", tmp_path / f"fold-{fold}" / "split.json"
        parts = part_by_participant(load_split(*own))
        inside = {subject for subject, k in folds.items() if k == fold}
        assert {subject for subject, part in parts.items() if part == "test"} == inside
        assert read_json(own[1])["hash"] != read_json(record)["hash"]
    rows = read_table(tmp_path / "folds.tsv")
    write_table(tmp_path / "folds.tsv", [row | {"fold": "1"} for row in rows], list(rows[0]))
    with pytest.raises(DataError, match="changed since"):
        load_folds(tmp_path / "folds.tsv", tmp_path / "folds.json")


@pytest.mark.parametrize("subjects", [[], crowd(3), crowd(9, families=2)])
def test_too_few_participants_or_families_for_the_folds_are_refused(tmp_path, subjects):
    table, record = tmp_path / "split.tsv", tmp_path / "split.json"
    rows, columns = split_participants(subjects, Split()), ["family_id"] if subjects else []
    split.write_split(rows, columns, table, record, Split())
    with pytest.raises(DataError, match="of 4 folds only"):
        folding.main(4, tmp_path, table, record)
