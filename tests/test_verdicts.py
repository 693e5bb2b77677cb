"""Sentences of a page: which model is better, and whether models had the same inputs."""

import pytest

from m2m.report import summary_text
from m2m.report.model_sentences import inputs_sentence


@pytest.mark.parametrize(
    ("metric", "low", "high", "p_holm", "verdict"),
    [
        ("ssim", "0.1", "0.2", "0.01", "better"),
        ("ssim", "-0.2", "-0.1", "0.01", "worse"),
        ("mae", "-0.2", "-0.1", "0.01", "better"),
        ("mae", "0.1", "0.2", "0.01", "worse"),
        ("angle_deg", "-4", "-1", "0.01", "better"),
        ("log_distance", "0.1", "0.2", "0.01", "worse"),
        ("density_r", "0.1", "0.2", "0.01", "better"),
        ("calibration_error", "-0.2", "-0.1", "0.01", "better"),
        ("high_coherence", "-0.2", "-0.1", "0.01", "worse"),
        ("sharpness_ratio", "0.1", "0.2", "0.01", ""),
        ("psnr", "-0.1", "0.2", "0.01", "not significantly different"),
        ("psnr", "0.1", "0.2", "0.06", "not significantly different"),  # .02 before the correction for 3 baselines
        ("identification", "-0.1", "0.9", "0.01", "not significantly different"),
        ("psnr", "0", "0", None, "not significantly different"),  # the same value in every participant
        ("psnr", None, None, None, "too few subjects"),
    ],
)
def test_a_verdict_follows_the_corrected_p_and_the_metrics_direction(metric, low, high, p_holm, verdict):
    row = {"metric": metric, "low": low, "high": high, "p_holm": p_holm}
    assert summary_text.verdict(row) == verdict


def test_unequal_inputs_are_stated_and_equal_ones_too():
    equal = {"a": "3 slices, mean map; mirrored", "b": "3 slices, mean map; mirrored", "mean": "no network"}
    assert inputs_sentence(equal) == "All networks have the same inputs: 3 slices, mean map; mirrored."
    found = inputs_sentence(equal | {"b": "1 slice; mirrored"})
    assert found.startswith("The networks do not have the same inputs, which is part of each difference: ")
    assert found.endswith("a has 3 slices, mean map, mirrored; b has 1 slice, mirrored.")
    assert inputs_sentence({"a": "1 slice; mirrored", "mean": "no network"}) == ""


def test_a_model_that_is_better_here_and_worse_there_is_not_called_better():
    def tile(*verdicts):
        leads = zip(("mean", "t1"), verdicts, strict=True)
        return {"leads": [{"baseline": name, "verdict": verdict} for name, verdict in leads]}

    found = summary_text.standings([tile("better", "better"), tile("worse", "not significantly different")])
    assert found == [
        {"baseline": "mean", "text": "better in 1, worse in 1 of 2", "kind": ""},
        {"baseline": "t1", "text": "better in 1 of 2", "kind": "better"},
    ]


def test_too_few_participants_and_no_significant_difference_are_distinguished():
    leads = {"mean": "too few subjects", "t1": "not significantly different"}
    tile = {"leads": [{"baseline": name, "verdict": verdict} for name, verdict in leads.items()]}
    texts = [row["text"] for row in summary_text.standings([tile, tile])]
    assert texts == ["too few subjects", "not significantly different in any of 2"]


def test_the_mean_map_and_the_atlas_stand_beside_the_result_and_a_missing_one_is_named():
    rows = [
        {"model": model, "region": region, "metric": "ssim", "mean": mean}
        for model, region, mean in (("mean", "wm", "0.1"), ("mean", "brain", "0.8124"), ("unet", "brain", "0.9"))
    ]
    found = summary_text.references(rows, {"mean map": "mean", "atlas": ""})
    assert found == [
        {"role": "mean map", "model": "mean", "value": "0.812"},
        {"role": "atlas", "model": "", "value": ""},
    ]


def test_the_ceiling_is_the_range_over_participants_who_were_measured_twice():
    names = ("map", "region", "metric", "value")
    rows = [
        dict(zip(names, row, strict=True))
        for row in (
            ("second-measurement", "brain", "ssim", "0.87"),
            ("second-measurement", "brain", "ssim", "0.8012"),
            ("second-measurement", "wm", "ssim", "0.2"),
            ("constant", "brain", "ssim", "0.3"),
        )
    ]
    assert summary_text.ceiling(rows) == {"n": 2, "low": "0.801", "high": "0.870"}
    assert summary_text.ceiling(rows[2:]) is None
