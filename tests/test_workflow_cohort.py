"""Selection by the tables of the cohort: units by state, part and fold, and shared jobs."""

from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Wildcards

from m2m.io.tables import write_table
from m2m.options import Config
from m2m.workflow.cohort_tables import Cohort, table
from m2m.workflow.results_layout import Layout
from m2m.workflow.shards import Shards, Together, growing


class Checkpoint:
    """A checkpoint that has run; it counts its calls."""

    def __init__(self):
        self.calls = 0

    def get(self):
        self.calls += 1


class NotYet(Exception):
    """What Snakemake raises to plan again, once the checkpoint has run."""


def waiting():
    raise NotYet


UNITS = [
    ("sub-01_ses-1", "sub-01", "paired", "raw/sub-01.nii.gz"),
    ("sub-01_ses-2", "sub-01", "dwi-only", None),
    ("sub-02", "sub-02", "paired", "raw/sub-02.nii.gz"),
    ("sub-03", "sub-03", "t1w-only", "raw/sub-03.nii.gz"),
    ("sub-04", "sub-04", "paired", "raw/sub-04.nii.gz"),
    ("sub-05", "sub-05", "failed", None),
]


@pytest.fixture
def files(tmp_path):
    config = {"dataset": "few", "results": tmp_path, "models": {}, "tasks": {}}
    files = Layout(Config.model_validate(config))
    columns = ("unit", "participant_id", "state", "t1w")
    write_table(files.units, (dict(zip(columns, row, strict=True)) for row in UNITS), columns)
    parts = {"sub-01": "train", "sub-02": "validation", "sub-04": "test"}
    folds = {"sub-01": 1, "sub-02": 2, "sub-04": 1}
    for path, name, values in ((files.split, "part", parts), (files.folds, "fold", folds)):
        rows = ({"participant_id": subject, name: value} for subject, value in values.items())
        write_table(path, rows, ("participant_id", name))
    return files


@pytest.fixture
def checkpoints():
    return SimpleNamespace(split=Checkpoint(), folds=Checkpoint())


@pytest.fixture
def cohort(files, checkpoints):
    return Cohort(files, checkpoints)


def test_units_are_listed_by_state_in_the_table_s_order(cohort):
    assert cohort.units("paired") == ["sub-01_ses-1", "sub-02", "sub-04"]
    assert cohort.units("paired", "dwi-only")[:2] == ["sub-01_ses-1", "sub-01_ses-2"]
    assert cohort.units("excluded") == []


def test_units_of_a_part_are_those_with_both_scans(cohort):
    assert cohort.of_part("train") == ["sub-01_ses-1"]
    assert cohort.of_part("train", "validation") == ["sub-01_ses-1", "sub-02"]
    assert cohort.of_part("test") == ["sub-04"]


def test_units_are_in_a_fold_or_in_another_one_and_never_in_both(cohort, checkpoints):
    assert cohort.of_fold(1) == cohort.of_fold("1") == ["sub-01_ses-1", "sub-04"]
    assert cohort.of_fold(1, inside=False) == cohort.of_fold(2) == ["sub-02"]
    assert checkpoints.folds.calls == 1 and not checkpoints.split.calls, "a checkpoint that has run is asked once"


def test_nothing_is_read_before_the_checkpoint_has_run(files, checkpoints):
    checkpoints.split.get = waiting
    cohort = Cohort(files, checkpoints)
    for ask in (cohort.units, cohort.of_part, lambda: cohort.row("sub-02")):
        with pytest.raises(NotYet):
            ask()


def test_a_unit_s_row_is_read_without_the_others(cohort):
    row = cohort.row("sub-02")
    assert (row["state"], row["t1w"]) == ("paired", "raw/sub-02.nii.gz")
    assert cohort.row("sub-05")["t1w"] is None


def test_a_table_is_read_again_only_when_it_has_changed(files, cohort):
    assert table(files.units) is table(files.units)
    assert cohort.units("paired")
    write_table(files.units, [{"unit": "sub-09", "state": "paired"}], ("unit", "state"))
    assert cohort.units("paired") == ["sub-09"]


def test_participants_share_a_job_by_their_position_and_the_parent_is_recorded(cohort):
    parents = {}
    group = Shards(2, parents).of("participant", cohort.place)
    names = [group(SimpleNamespace(unit=unit)) for unit, *_ in UNITS]
    assert names == [
        "participant-0",
        "participant-0",
        "participant-1",
        "participant-1",
        "participant-2",
        "participant-2",
    ]
    assert parents == dict.fromkeys(names, "participant")


def test_without_shards_no_participant_shares_a_job(cohort):
    assert Shards(0, {}).of("participant", cohort.place) is None


@pytest.fixture
def by_four(cohort):
    """Jobs for units with both scans, of four rows of units.tsv each."""
    return Together(cohort, 4, lambda wildcards: cohort.units("paired"))


def served(together, unit):
    return [one["unit"] for one in together.served({"unit": unit, "folder": "", "model": "m"})]


def test_a_job_serves_the_units_of_its_shard_and_is_named_after_the_first(by_four):
    job = {"unit": "sub-02", "folder": "sub-02", "model": "m"}
    assert by_four.leader(job) == {"unit": "sub-01_ses-1", "folder": "sub-01/ses-1", "model": "m"}
    assert served(by_four, "sub-01_ses-1") == ["sub-01_ses-1", "sub-02"]
    assert by_four.served(by_four.leader(job))[1] == job
    assert served(by_four, "sub-04") == ["sub-04"]  # of the next shard
    assert served(by_four, "sub-02") == ["sub-02"]  # such a job was asked for before the tables were there


def test_inputs_and_flags_are_those_of_each_unit(by_four):
    job = Wildcards(fromdict={"unit": "sub-01_ses-1", "folder": "sub-01/ses-1", "model": "m"})
    assert by_four.inputs("{model}/{folder}/{unit}.nii")(job) == [
        "m/sub-01/ses-1/sub-01_ses-1.nii",
        "m/sub-02/sub-02.nii",
    ]
    assert by_four.inputs(lambda one: [])(job) == []
    subject, further = (lambda one: ["--subject", one.unit[:6]]), (lambda one: ["--of", one.model])
    assert by_four.flags(subject, further)(job) == [
        "+",
        "--subject",
        "sub-01",
        "--of",
        "m",
        "+",
        "--subject",
        "sub-02",
        "--of",
        "m",
    ]


def test_in_another_version_of_snakemake_a_job_serves_one_unit(by_four, monkeypatch):
    monkeypatch.setattr("m2m.workflow.snakemake_patches.applies", lambda: False)
    assert served(by_four, "sub-01_ses-1") == ["sub-01_ses-1"]


def test_a_job_that_failed_gets_more_at_each_attempt():
    assert [growing(1500)(None, attempt) for attempt in (1, 2, 3)] == [1500, 3000, 4500]
