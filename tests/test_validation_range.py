"""What lies outside the validation range of a model: ranges, numbers of T1s, warnings, sidecars, QC figure."""

from functools import cache

import numpy as np
import pytest
import unlike_t1s as unlike
from line_model import run, write_line
from PIL import Image

from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.qc import Panel, draw
from m2m.io.volume import Volume, load, resample, save
from m2m.models.uncertainty import SMALLEST, Prediction, mean_deviations
from m2m.models.validation_range import NUMBERS, joined, margin, outside, ranges_of, warning_of
from m2m.options import Anat
from m2m.structural.anat import Anatomy, prepare
from m2m.structural.slices import normalise
from m2m.structural.t1_numbers import t1_numbers
from m2m.structural.template import load_template
from m2m.translate.t1_checks import contrast, require_t1

GRID = {"shape": [64, 80, 64], "t1_range_percent": [1, 99]}
RAS = np.array([[3.0, 0, 0, -93], [0, 3, 0, -130], [0, 0, 3, -75], [0, 0, 0, 1]])
SHAPE = (63, 75, 63)
# Of 12 real T1s (docs/experiments/outside.md).
REAL = {
    "brain_volume_l": (1.06, 1.44),
    "brain_overlap": (0.943, 0.956),
    "template_mi": (0.16, 0.275),
    "tissue_contrast": (1.04, 1.87),
    "asymmetry": (0.054, 0.122),
}
RANGES = {name: {"low": low, "high": high, "n_subjects": 12} for name, (low, high) in REAL.items()}


def on_grid(name):
    return resample(load_template(name, 2.0), RAS, SHAPE).data


def template_head():
    """The template's brain as a participant in MNI152 coordinates, with its noise."""
    brain = on_grid("brain") > 0.5
    noise = 30 * np.random.default_rng(0).standard_normal(SHAPE)
    t1 = Volume(np.where(brain, 1000 * on_grid("t1") + noise, 0).astype(np.float32), RAS)
    anatomy = Anatomy(t1, Volume(brain, RAS), Volume(brain, RAS), np.eye(4), 1.5, 0, 0, [])
    return unlike.head_of(t1, anatomy)


def numbers_of(t1, brain, displacement=None):
    scaled, _ = normalise(t1.data, brain, (1, 99))
    return t1_numbers(Volume(scaled, t1.affine), brain, np.eye(4), displacement)


def test_the_range_is_that_of_the_participants_who_have_the_number():
    both = joined({"a": {"low": 1, "high": 2, "n_subjects": 3}}, ranges_of([{"a": 5, "b": 1}, {"a": 4}]))
    assert both == {"a": {"low": 1, "high": 5, "n_subjects": 5}}
    found = ranges_of([{"asymmetry": 0.1, "mean_sd": 0.05}, {"asymmetry": 0.3}, {"asymmetry": np.nan}])
    assert found == {
        "asymmetry": {"low": 0.1, "high": 0.3, "n_subjects": 2},
        "mean_sd": {"low": 0.05, "high": 0.05, "n_subjects": 1},
    }


def test_a_value_counts_where_it_is_unusual_and_far_beyond_the_range():
    ranges = {name: {"low": 1.0, "high": 3.0, "n_subjects": 9} for name in NUMBERS}
    for name, number in NUMBERS.items():
        low, high = ([one.name for one in outside({name: value}, ranges)] for value in (-0.1, 4.1))
        assert bool(low) == (number.unusual in ("low", "both")), name
        assert bool(high) == (number.unusual in ("high", "both")), name
        assert not outside({name: 0.1}, ranges) and not outside({name: 3.9}, ranges), "within half a width"
    near, far = (outside({"asymmetry": value}, ranges)[0] for value in (4.5, 9.0))
    assert near.widths == 0.75 and not near.far and far.far and "far outside" in far.problem


@pytest.mark.parametrize("n_subjects", [5, 12, 50, 200])
def test_few_sound_participants_are_flagged_whatever_the_range_is_over(rng, n_subjects):
    """Of normally distributed numbers, three standard deviations leave .13 %; a range over few is uncertain."""
    validated, new = rng.normal(size=(4000, n_subjects)), rng.normal(size=(4000, 100))
    low, high = validated.min(axis=1, keepdims=True), validated.max(axis=1, keepdims=True)
    beyond = (new > high + margin(n_subjects) * (high - low)).mean()
    assert 0.001 < beyond < 0.03
    assert margin(n_subjects) > margin(n_subjects + 1) > 0 == margin(100_000)


def test_few_participants_and_a_record_without_ranges_are_no_range():
    few = {"asymmetry": {"low": 0.1, "high": 0.2, "n_subjects": 4}}
    assert outside({"asymmetry": 9.0}, few) == outside({"asymmetry": 9.0}, {}) == []


def test_participants_who_are_alike_by_chance_make_no_narrow_range():
    alike = {"asymmetry": {"low": 0.1, "high": 0.1, "n_subjects": 5}}
    assert not outside({"asymmetry": 0.14}, alike) and outside({"asymmetry": 0.2}, alike)


def test_the_farthest_is_named_first_with_value_range_and_what_to_look_at():
    ranges = {name: {"low": 1.0, "high": 2.0, "n_subjects": 9} for name in ("asymmetry", "mean_sd")}
    first, second = outside({"asymmetry": 3.0, "mean_sd": 9.0}, ranges)
    assert (first.name, second.name) == ("mean_sd", "asymmetry")
    text = str(warning_of(second.entry(), "t1.nii.gz"))
    assert "between the hemispheres" in text and "(found 3, range 1 to 2 of 9 participants)" in text
    assert "in t1.nii.gz" in text and "look at the T1: a lesion" in text


def test_the_mean_deviation_is_of_the_brain_by_candidate():
    inside = np.zeros((2, 3, 4), bool)
    inside[0] = True
    candidate = np.where(inside, 0.2, 9).astype(np.float32)
    found = mean_deviations(Prediction(candidate, {"views": candidate, "none": 0 * candidate}), inside)
    assert found == pytest.approx({"mean_sd_views": 0.2, "mean_sd_none": SMALLEST})
    ranges = {"mean_sd_views": {"low": 0.02, "high": 0.03, "n_subjects": 9}}
    (one,) = outside(found, ranges)
    assert one.name == "mean_sd_views" and one.far and "standard deviation" in one.problem


def test_a_number_of_a_later_version_is_not_compared():
    assert not outside({"later": 9.0}, {"later": {"low": 0.0, "high": 1.0, "n_subjects": 9}})


def test_numbers_of_the_template_and_of_its_changes():
    head = template_head()
    sound = numbers_of(head.t1, head.brain)
    assert sound["brain_overlap"] > 0.97 and sound["tissue_contrast"] > 1.5 and sound["asymmetry"] < 0.03
    assert sound["brain_volume_l"] == pytest.approx(head.brain.sum() * 27e-6)
    changed = {name: numbers_of(unlike.UNLIKE[name](head), head.brain) for name in ("lesion of 60 ml", "noise of .4")}
    assert changed["lesion of 60 ml"]["asymmetry"] > 0.3
    assert changed["noise of .4"]["tissue_contrast"] < 0.6 * sound["tissue_contrast"]
    assert changed["noise of .4"]["template_mi"] < 0.7 * sound["template_mi"]
    assert numbers_of(unlike.t2(head), head.brain)["tissue_contrast"] < 0
    left_off = head.brain & (head.mni_mm[..., 2] < 40)
    assert numbers_of(head.t1, left_off)["brain_overlap"] < 0.95


def test_an_affine_that_leads_elsewhere_leaves_overlap_and_volume():
    head, elsewhere = template_head(), np.eye(4)
    elsewhere[:3, 3] = 500
    scaled, _ = normalise(head.t1.data, head.brain, (1, 99))
    found = t1_numbers(Volume(scaled, RAS), head.brain, elsewhere)
    assert found.keys() == {"brain_volume_l", "brain_overlap"} and found["brain_overlap"] == 0


def test_the_size_of_a_lesion_is_that_asked_for():
    head = template_head()
    filled = np.abs(unlike.lesion(0.08)(head).data - head.t1.data)[head.brain]
    assert 0.05 < (filled > 100).sum() * 27e-6 < 0.11


def test_a_deformation_has_its_similarity_and_jacobian():
    head = template_head()
    nothing = np.zeros((*SHAPE, 3), np.float32)
    plain = numbers_of(head.t1, head.brain, nothing)
    assert plain["deformed_mi"] == pytest.approx(plain["template_mi"])
    assert plain["jacobian_p1"] == plain["jacobian_p99"] == 1
    stretch = nothing.copy()
    stretch[..., 2] = 0.2 * head.mni_mm[..., 2]
    found = numbers_of(head.t1, head.brain, stretch)
    assert found["jacobian_p1"] == pytest.approx(1.2, abs=0.01) and found["deformed_mi"] < plain["deformed_mi"]


def yellow(figure):
    """Where a figure is yellow."""
    return np.asarray(figure.convert("RGB")).astype(int) @ (1, 1, -2) > 300


def test_warnings_are_yellow_lines_below_the_rows():
    around = np.zeros((40, 40, 40), bool)
    around[5:35, 5:35, 5:35] = True
    panels = [Panel("one", 0.5 * around)]
    plain, warned = (draw(panels, around, 3.0, warnings=texts) for texts in ([], ["a warning of many words " * 20]))
    assert warned.width == plain.width and warned.height > plain.height + 30, "several lines"
    assert not yellow(plain).any()
    assert yellow(warned)[plain.height :].any() and not yellow(warned)[: plain.height].any()
    assert not yellow(warned)[:, -2:].any(), "none is cut"


def test_a_record_with_a_range_upside_down_is_refused(tmp_path):
    wrong = {"asymmetry": {"low": 2.0, "high": 1.0, "n_subjects": 9}}
    weights = write_line(tmp_path, validation_range=wrong, **GRID)
    result = run("translate", "t1.nii.gz", "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 1 and "low is above high" in result.output


@cache
def prepared(path):
    """A real T1 and its parts; registered once."""
    t1 = load(path)
    return unlike.head_of(t1, prepare(t1, None, Anat()))


@pytest.fixture
def real_head(shared_data):
    """A real T1 and its parts."""
    return prepared(shared_data / "anatomies" / "sub-DS13_T1w.nii.gz")


def test_a_real_t1_is_not_flagged_and_one_with_a_lesion_is(real_head, tmp_path):
    root = tmp_path / "bids"
    t1s = {"sub-01": real_head.t1, "sub-02": unlike.lesion(0.08)(real_head)}
    for subject, t1 in t1s.items():
        save(root / subject / "anat" / f"{subject}_T1w.nii.gz", t1)
    (root / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.10.0"}')
    weights = write_line(tmp_path, 0.05, 0.4, validation_range=RANGES, **GRID)
    result = run("translate", root, "--weights", weights, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    sidecars = [read_json(*(tmp_path / "out" / subject / "dwi").glob("*desc-synth_*dwimap.json")) for subject in t1s]
    assert sidecars[0]["OutsideValidationRange"] == []
    assert 0.05 < sidecars[0]["Conformed"]["Compared"]["asymmetry"] < 0.12
    assert sidecars[1]["OutsideValidationRange"][0]["Number"] == "asymmetry"
    findings = (tmp_path / "out" / "cohort" / "cohort_status.tsv").read_text().splitlines()[1:]
    assert findings and all(row.startswith("sub-02") and "note" in row and "translate" in row for row in findings)
    figures = [Image.open(*(tmp_path / "out" / subject / "figures").glob("*.png")) for subject in t1s]
    assert [bool(yellow(figure)[-60:].any()) for figure in figures] == [False, True]
    one = root / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    result = run("translate", one, "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 0 and "warning: difference between the hemispheres is far outside" in result.output


@pytest.mark.parametrize("kind", ["contrast of a T2", "infant", "left half only", "upper half only"])
def test_a_real_t1_made_certainly_wrong_is_refused(kind, real_head):
    changed = unlike.UNLIKE[kind](real_head)
    with pytest.raises(DataError):
        anatomy = prepare(changed, None, Anat())
        require_t1(contrast(changed, anatomy), anatomy.excluded)
