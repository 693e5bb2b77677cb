"""A participant with two sessions is one participant in means, intervals and numbers, not two."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from m2m.evaluate import metric_records
from m2m.evaluate.metric_tables import BUNDLE_COLUMNS, by_participant, individuality, over_sessions
from m2m.evaluate.statistics import limits_of_agreement
from m2m.figures.agreement import draw_agreement
from m2m.figures.bundle_scatter import draw_bundles
from m2m.figures.held_out_panels import held_out_rows
from m2m.figures.results import draw_profile, draw_rois
from m2m.figures.spectrum import draw_spectrum
from m2m.figures.uncertainty_maps import draw_uncertainty
from m2m.io.tables import write_table

# The first participant's sessions, of mean 4, and two participants of one session.
VALUES = {"sub-01_ses-1": 2.0, "sub-01_ses-2": 6.0, "sub-02": 1.0, "sub-03": 7.0}
OF_PARTICIPANTS = np.array([4.0, 1.0, 7.0])
HALF = stats.t.ppf(0.975, 2) * 3 / np.sqrt(3)
INTERVAL = pytest.approx((4, 4 - HALF, 4 + HALF))


def table(**columns):
    """One row per unit; columns are constants, or functions of its value."""
    rows = [
        {"model": "a", "unit": unit} | {key: of(value) if callable(of) else of for key, of in columns.items()}
        for unit, value in VALUES.items()
    ]
    return pd.DataFrame(rows)


def test_sessions_are_averaged_whether_the_table_names_units_or_participants():
    named = table(value=float).assign(participant_id=["sub-01", "sub-01", "sub-02", "sub-03"])
    for one in (named, named.drop(columns="participant_id"), named.drop(columns="unit")):
        found = over_sessions(one, ["model"], ["value"])
        names = {"participant_id": ["sub-01", "sub-02", "sub-03"], "model": ["a"] * 3}
        assert found.to_dict("list") == {**names, "value": [*OF_PARTICIPANTS]}


def test_a_session_without_a_value_leaves_the_other_sessions_value():
    missing = table(value=lambda value: np.nan if value == 6 else value)
    assert over_sessions(missing, ["model"], ["value"])["value"].tolist() == [2, 1, 7]


def test_the_metrics_and_regional_means_are_of_participants():
    metrics = table(region="brain", ssim=float).assign(participant_id=["sub-01", "sub-01", "sub-02", "sub-03"])
    metrics = metrics.reindex(columns=dict.fromkeys([*metrics.columns, *metric_records.columns()]))
    assert by_participant(metrics)["value"].tolist() == [*OF_PARTICIPANTS]
    subjects, names, reference, synthetic = individuality(table(roi="r", reference=float, synthetic=lambda x: 2 * x))
    assert (subjects, names) == (["sub-01", "sub-02", "sub-03"], ["r"])
    np.testing.assert_allclose(reference[:, 0], OF_PARTICIPANTS)
    np.testing.assert_allclose(synthetic[:, 0], 2 * OF_PARTICIPANTS)


def test_bands_of_the_profile_are_over_participants():
    _, rows = draw_profile(table(offset_mm=0.0, ssim=float, psnr=float, mae=float), ["a"])
    assert len(rows) == 3
    for row in rows:
        assert (row["mean"], row["low"], row["high"]) == INTERVAL and row["n_subjects"] == 3


def test_a_slice_of_one_participants_sessions_alone_is_not_drawn():
    both = table(offset_mm=0.0, ssim=float, psnr=float, mae=float)
    top = both[both["unit"].str.startswith("sub-01")].assign(offset_mm=9.0)  # two of four units, one participant
    _, rows = draw_profile(pd.concat([both, top]), ["a"])
    assert {row["offset_mm"] for row in rows} == {0}


def test_bands_of_the_spectrum_are_over_participants_by_the_logarithm():
    spectra = table(
        frequency_per_mm=0.1, reference_power=10.0, synthetic_power=lambda x: 10**x, coherence=lambda x: x / 10
    )
    found = {(row["model"], row["quantity"]): row for row in draw_spectrum(spectra, ["a"])[1]}
    power, ratio, coherence = (found["a", name] for name in ("power", "power_ratio", "coherence"))
    assert tuple(np.log10([power[key] for key in ("mean", "low", "high")])) == INTERVAL
    assert np.log10(ratio["mean"]) == pytest.approx(3) and 10 * coherence["high"] == pytest.approx(4 + HALF)
    assert {row["n_subjects"] for row in found.values()} == {3}


def test_curves_of_uncertainty_are_means_over_participants():
    curves = [table(curve=name, x=0.5, y=float) for name in ("calibration", "retention", "oracle")]
    kind = SimpleNamespace(scaled="FA", kind="fa")
    study = SimpleNamespace(models=("a",), look=kind, target=kind, deviations=lambda subject, model: None)
    subject = SimpleNamespace(rank="median", unit="sub-02", folder="sub-02")
    _, rows = draw_uncertainty(study, pd.concat(curves), [subject])
    found = [(row["curve"], row["y"], row["n_subjects"]) for row in rows]
    assert found == [(name, 4, 3) for name in ("calibration", "retention", "oracle")]


def test_limits_of_agreement_are_over_participants():
    _, rows = draw_agreement(table(roi="r", reference=0.0, synthetic=float), ["a"], "FA")
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02", "sub-03"]
    found = tuple(rows[0][key] for key in ("bias", "low", "high"))
    assert found == pytest.approx(limits_of_agreement(OF_PARTICIPANTS))


def test_regions_have_a_dot_for_each_participant():
    figure, rows = draw_rois(table(roi="r", reference=float, synthetic=float, n_voxels=5), ["a"], "FA")
    assert [row["reference"] for row in rows] == [*OF_PARTICIPANTS]
    # Sessions that differ among themselves are no further sample of the agreement.
    assert "concordance 1.000" in figure.axes[0].get_title()


def test_bundles_have_a_dot_for_each_participant():
    numbers = dict.fromkeys(BUNDLE_COLUMNS[2:], float) | {"density_r": lambda x: x / 10}
    figure, rows = draw_bundles(table(bundle="b", **numbers), ["a"])
    assert [row["density_r"] for row in rows] == pytest.approx([0.4, 0.1, 0.7])
    (mean,) = [line for line in figure.axes[2].lines if line.get_marker() == "|" and len(line.get_xdata())]
    assert mean.get_xdata()[0] == pytest.approx(0.4)


def test_held_out_slices_have_a_row_for_each_participant(tmp_path):
    columns = ("unit", "every", "n_planes", "method", "plane", "psnr", "ssim", "pearson", "n_voxels", "seconds")
    one = table(
        every=4, n_planes=3, method="field", plane=None, psnr=float, ssim=0.5, pearson=0.5, n_voxels=5, seconds=2.0
    )
    write_table(tmp_path / "a.tsv", one[list(columns)].to_dict("records"), columns)
    rows = held_out_rows([tmp_path / "a.tsv"])
    assert [(row["participant_id"], row["psnr"]) for row in rows] == [("sub-01", 4), ("sub-02", 1), ("sub-03", 7)]
