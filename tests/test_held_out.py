"""Held-out slices: exact interpolation, and a field fitted to the other slices."""

import numpy as np
import pandas as pd
import pytest

from m2m import GENERATED_BY
from m2m.diffusion.scales import density_of_log
from m2m.evaluate.compare_fields import COLUMNS, cases, compare_case, compare_unit
from m2m.evaluate.held_out import Case, interpolated, score, weighted
from m2m.figures.held_out_panels import draw_held_out, held_out_rows
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume, save
from m2m.options import SliceField
from m2m.report.field_page import cells, means, sentences
from m2m.structural.slices import PLANES

SHAPE = (18, 18, 18)
X, Y, Z = np.indices(SHAPE) / 18
FEW = SliceField(features=2, hidden=(16,), spacings=(1.3, 2.7, 5.3), steps=250, batch_size=512)


def case_of(data, planes=PLANES, every=4):
    inside = np.zeros(SHAPE, bool)
    inside[3:15, 3:15, 3:15] = True
    return Case(Volume(data, np.diag([2.0, 2, 2, 1])), inside, planes, every)


def test_voxels_between_slices_of_three_orientations_are_counted():
    case = case_of(Z, every=3)
    assert case.kept["axial"].tolist() == [1, 4, 7, 10, 13, 16]
    assert case.unseen.sum() == 8**3  # of 12 along each axis four are kept
    assert case._replace(planes=("axial",)).unseen.sum() == 12 * 12 * 8


def test_splines_are_exact_on_polynomials_of_their_degree():
    line, cubic = case_of(Z), case_of(Z**3 - Z)
    np.testing.assert_allclose(interpolated(line, "axial", 1)[..., 2:15], Z[..., 2:15])
    np.testing.assert_allclose(interpolated(cubic, "axial", 3), Z**3 - Z, atol=1e-12)
    assert score(cubic, interpolated(cubic, "axial", 3)).psnr > 200
    assert np.abs(interpolated(cubic, "axial", 1) - cubic.image.data).max() > 1e-3


def test_the_orientation_with_the_best_prediction_has_the_largest_weight():
    noisy = np.random.default_rng(1).normal(size=(18, 18, 1)) + 0 * Z  # only axial slices contain it
    case = case_of(noisy)
    assert score(case, weighted(case)).psnr > 60
    assert score(case, np.mean([interpolated(case, p, 3) for p in PLANES], axis=0)).psnr < 30


def test_a_field_of_three_orientations_predicts_an_oblique_wave_better_than_one_orientation():
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * (X + Y + Z) * 1.5)
    rows = list(compare_case(case_of(wave), FEW))
    psnr = {(row["method"], row["plane"]): row["psnr"] for row in rows}
    assert len(rows) == 2 * 3 + 3 and all(0 < row["n_voxels"] < 12**3 for row in rows)
    assert psnr["field", None] > max(value for (_, plane), value in psnr.items() if plane) + 2


@pytest.fixture
def table(tmp_path):
    """Table of the stage for the density of one participant."""
    affine = np.diag([2.0, 2, 2, 1])
    save(tmp_path / "tdi.nii.gz", Volume(density_of_log(0.5 + 0.4 * np.sin(9 * X + 7 * Z)), affine))
    save(tmp_path / "mask.nii.gz", Volume(case_of(X).inside, affine), dtype=np.uint8)
    few = FEW.model_copy(update={"steps": 5})
    compare_unit(
        tmp_path / "tdi.nii.gz",
        tmp_path / "mask.nii.gz",
        tmp_path / "a.tsv",
        "sub-01",
        tmp_path / "s.json",
        (3, 6),
        few,
        device="cpu",
    )
    status = {"unit": "sub-01", "stage": "compare-fields", "status": "ok", "n_rows": 24}
    assert read_json(tmp_path / "s.json") == status | {"GeneratedBy": list(GENERATED_BY)}
    return tmp_path / "a.tsv"


def test_the_stage_writes_a_row_for_each_spacing_orientation_and_method(table):
    rows = read_table(table)
    assert tuple(rows[0]) == COLUMNS and {row["unit"] for row in rows} == {"sub-01"}
    assert {(row["every"], row["n_planes"]) for row in rows} == {(every, n) for every in ("3", "6") for n in ("1", "3")}
    one = [row["method"] for row in rows if (row["every"], row["n_planes"]) == ("3", "1")]
    assert one == ["linear", "cubic", "field"]


def test_a_mask_without_voxels_between_slices_is_refused():
    inside = Volume(np.zeros(SHAPE, np.uint8), np.eye(4))
    (case, *_) = cases(Volume(X, np.eye(4)), inside, [2])
    with pytest.raises(DataError, match="between kept slices"):
        next(compare_case(case, FEW))


def row_of(unit, method, plane, psnr):
    about = {"unit": unit, "every": 4, "n_planes": 3, "method": method, "plane": plane}
    return about | {"psnr": psnr, "ssim": psnr / 40, "pearson": 0.9, "n_voxels": 9, "seconds": 30}


def test_figure_and_page_show_the_best_plane_and_the_best_method(tmp_path):
    paths = []
    for unit, worst in (("sub-01", "axial"), ("sub-02", "coronal")):
        rows = [row_of(unit, "cubic", plane, 15 - (plane == worst)) for plane in ("axial", "coronal")]
        paths.append(tmp_path / f"{unit}.tsv")
        write_table(paths[-1], [*rows, row_of(unit, "field", None, 17.5)], COLUMNS)
    (tmp_path / "failed.tsv").touch()
    rows = held_out_rows([*paths, tmp_path / "failed.tsv"])
    assert [(row["method"], row["participant_id"], row["psnr"]) for row in rows] == [
        ("cubic, best plane", "sub-01", 15),
        ("cubic, best plane", "sub-02", 15),
        ("field", "sub-01", 17.5),
        ("field", "sub-02", 17.5),
    ]
    assert draw_held_out(rows).axes[0].get_ylabel() == "PSNR (dB), other voxels"
    found = means(pd.DataFrame(rows))
    (line,) = sentences(found)
    assert line.startswith("Three orientations, one in 4 slices kept: PSNR (dB) 17.50, +2.50 compared with")
    assert "(cubic, best plane): the field's mean is higher" in line and "Pearson's r 0.900, +0.000" in line
    assert line.count("not higher") == 1 and line.endswith("The field took 30 s per participant.")
    assert cells(found)[1][:4] == ["Three orientations", "4", "field", "17.50"]
    assert held_out_rows([tmp_path / "failed.tsv"]) == []
