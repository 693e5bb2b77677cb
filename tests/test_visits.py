"""Several visits of a simulated participant: aging, a change of their own, new noise, one part of the split."""

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from m2m.cli import app
from m2m.cohort.split import split_participants, subjects_of_units
from m2m.io.tables import read_table, write_table
from m2m.options import Phantom, Split
from m2m.phantom import individuals, labels

VISITS = {"number": 2, "years": 3.0}
SMALL = {"n_subjects": 2, "t1_spacing_mm": 8.0, "dwi_spacing_mm": 8.0, "n_directions": 6}


def test_a_first_visit_is_the_participant_without_visits_and_the_default_has_none():
    with_visits, without = Phantom(visits=VISITS), Phantom()
    assert without.sessions == () and "visits" not in without.model_dump()
    assert with_visits.sessions == ("ses-1", "ses-2")
    one, other = individuals.draw(with_visits, "0007"), individuals.draw(without, "0007")
    assert one.age_years == other.age_years
    for name in ("fa", "myelin", "to_brain"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_between_visits_participants_age_shrink_a_little_and_change_each_in_their_own_way():
    options = Phantom(visits=VISITS)
    drawn = [[individuals.draw(options, label, visit) for visit in (0, 1)] for label in labels(60)]
    assert [later.age_years - first.age_years for first, later in drawn] == pytest.approx([3] * 60)
    assert all(0.99 < later.brain_volume / first.brain_volume < 1 for first, later in drawn)
    change = np.array([(later.fa - first.fa).mean() for first, later in drawn])
    # .012 less in ten years, and .005 a year between participants.
    assert change.mean() == pytest.approx(-0.0036, abs=3 * 0.015 / np.sqrt(60))
    assert change.std(ddof=1) == pytest.approx(0.015, rel=0.3)
    fixed = Phantom(visits=VISITS | {"years": 0.0})
    first, later = (individuals.draw(fixed, "0001", visit) for visit in (0, 1))
    np.testing.assert_allclose(first.fa, later.fa, rtol=1e-12)
    assert np.abs(first.pose.from_scanner - later.pose.from_scanner).max() > 0.1


def test_each_visit_is_a_session_with_noise_of_its_own(tmp_path):
    options = Phantom(**SMALL, visits=VISITS | {"years": 0.0}, oblique_deg=0).model_dump_json()
    result = CliRunner().invoke(
        app, ["simulate", "--root", str(tmp_path), "--subject", "sub-0001", "--options", options]
    )
    assert result.exit_code == 0, result.output
    rows = read_table(tmp_path / "rawdata/sub-0001/sub-0001_sessions.tsv")
    assert [row["session_id"] for row in rows] == ["ses-1", "ses-2"] and rows[0]["age"] == rows[1]["age"]
    t1 = [
        np.asarray(nib.load(tmp_path / f"rawdata/sub-0001/{s}/anat/sub-0001_{s}_T1w.nii.gz").dataobj, float)
        for s in ("ses-1", "ses-2")
    ]
    air = [image[:2] for image in t1]
    assert abs(np.corrcoef(air[0].ravel(), air[1].ravel())[0, 1]) < 0.1
    assert np.corrcoef(t1[0].ravel(), t1[1].ravel())[0, 1] > 0.5


def test_all_visits_of_a_participant_are_in_one_part(tmp_path):
    units = [
        {"unit": f"sub-{n:02}_ses-{s}", "participant_id": f"sub-{n:02}", "session_id": f"ses-{s}", "state": "paired"}
        for n in range(12)
        for s in (1, 2)
    ]
    write_table(tmp_path / "units.tsv", units, tuple(units[0]))
    subjects, _ = subjects_of_units(tmp_path / "units.tsv", ("paired",), None)
    parts = split_participants(subjects, Split())
    assert len(parts) == len({row["participant_id"] for row in parts}) == 12
    assert {row["part"] for row in parts} == {"train", "validation", "test"}
