"""The whole workflow on a cohort with good and bad participants: the bad ones do not stop it."""

import pytest
import yaml
from bad_scans import cut_stream
from cohort_tree import dataset, write_rows
from test_bad_input import ANAT, BAD_SERIES, BAD_T1, PAIRS, RIGHT_T1, scans, simulate, t1
from workflow import snakemake, warm_stages

from m2m.io.tables import read_table

pytestmark = pytest.mark.end_to_end
GOOD = [f"sub-{i:04}" for i in range(1, 6)]
# Damage to a participant's scans; the participant's state, the stage, and a part of the reason.
BAD = {
    "sub-both": (lambda f: [cut_stream(path) for path in scans(f)], "failed", "validate", "read"),
    "sub-nodwi": (lambda f: scans(f)[1].unlink(), "incomplete", "validate", "DWI"),
    "sub-t1": (lambda f: t1(f).write_bytes(b"?"), "incomplete", "validate", "image cannot be read"),
    "sub-sign": (BAD_SERIES["row of bvec with the other sign"][0], "failed", "dti", "reversed"),
    "sub-noise": (BAD_T1["T1 of noise"][0], "excluded", "anat", "brain volume"),
    "sub-slab": (BAD_T1["T1 of a few slices"][0], "failed", "anat", "too little of the head"),
    "sub-part": (PAIRS["series of a few slices"][0], "excluded", "grid", "DWI covers"),
}
ROTATED = "sub-rotated"
CONFIG = {
    "dataset": "mixed",
    "cohort": {"source": "bids", "bids_dir": "rawdata"},
    "split": {"validation": 0.2, "test": 0.4},
    "anat": ANAT,
    "models": {"mean": {"family": "mean"}, "t1": {"family": "t1"}},
    "tasks": {"t1-fa": {"models": ["mean", "t1"]}},
    "report": {"title": "Good and bad participants"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Output of Snakemake, and the dataset's results."""
    folder = tmp_path_factory.mktemp("mixed")
    raw = dataset(folder / "rawdata")
    for label, subject in enumerate([*GOOD, ROTATED, *BAD]):
        simulate(raw / subject, folder / "truth", f"{label:04}")
    RIGHT_T1["T1 oblique"](raw / ROTATED)
    for subject, (damage, *_) in BAD.items():
        damage(raw / subject)
    rows = ([subject, "forty", "F", ""] for subject in ["sub-unknown", ROTATED, *GOOD[1:], *BAD])
    write_rows(raw / "participants.tsv", ("participant_id", "age", "sex", "empty"), *rows)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    with warm_stages(folder / "bin"):
        run = snakemake(folder, "--cores", "2", configfile=str(config))
    assert run.returncode == 0, run.stdout[-5000:]
    return run.stdout, folder / "results/mixed"


def test_bad_participants_do_not_stop_the_others(study):
    output, root = study
    assert "Traceback" not in output
    assert "Good and bad participants" in (root / "report.html").read_text()
    tested = {r["unit"] for r in quality(root) if (r["part"], r["state"]) == ("test", "used")}
    for row in read_table(root / "evaluate/t1-fa/summary.tsv"):
        assert int(row["n_input"]) == len(GOOD) + 1 + len(BAD)
        assert int(row["n_used"]) == len(GOOD) + 1
        assert int(row["n_subjects"]) == len(tested) > 1


def quality(root):
    """Final state of all participants."""
    return read_table(root / "cohort/quality.tsv")


@pytest.mark.parametrize("subject", BAD)
def test_a_bad_participant_is_named_with_the_reason(study, subject):
    (row,) = (row for row in quality(study[1]) if row["unit"] == subject)
    _, state, stage, reason = BAD[subject]
    assert (row["state"], row["stage"]) == (state, stage)
    assert reason in row["reason"]


def test_the_good_participants_are_used(study):
    used = {row["unit"] for row in quality(study[1]) if row["state"] == "used"}
    assert used == {*GOOD, ROTATED}


def test_errors_in_the_table_of_participants_are_findings(study):
    findings = read_table(study[1] / "cohort/cohort_status.tsv")
    assert {("sub-unknown", "sub-unknown"), (GOOD[0], GOOD[0]), (ROTATED, "forty")} <= {
        (finding["unit"], finding["value"]) for finding in findings
    }
