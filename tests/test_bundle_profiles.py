"""Profiles along named bundles: the bundles as installed, known profiles, a turned head, tables, command, figure."""

import itertools
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report_tree as tree
from line_model import run, write_line
from matplotlib.text import Text
from nibabel.affines import apply_affine
from PIL import Image
from scipy.spatial.transform import Rotation
from trx import trx_file_memmap

from m2m.evaluate.metric_tables import load_tables
from m2m.figures.profile_figure import MAIN, bundle_profiles_figure, draw_profiles
from m2m.figures.study import Study
from m2m.io.bids import files_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.tables import read_table
from m2m.io.volume import Volume, resample, save
from m2m.models.reference_map import reference_map
from m2m.options import Deformation, Task
from m2m.structural.deformation import Deformed
from m2m.structural.named_bundles import FILE, NamedBundle, load_bundles, to_t1_space
from m2m.structural.profiles import Samples, core_weights, profile, sample
from m2m.structural.template import load_template
from m2m.translate.bundle_profiles import bundle_rows, compared_maps, draw, write_profiles
from m2m.translate.outputs import ProfileInputs, profile_outputs
from m2m.translate.predict import Subject, Translated
from m2m.translate.profile_tables import MEAN_COLUMNS, PROFILE_COLUMNS, agreement, mean_row

AFFINE = np.array([[2.0, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
SHAPE = (91, 109, 91)
GRID = apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
BRAIN = np.ones(SHAPE, bool)
NAMED = {bundle.name: bundle for bundle in load_bundles()}
AXES = {"left": 0, "posterior": 1, "inferior": 2}


def straight(n=5, positions=21):
    """Parallel streamlines along y, from -50 to 50 mm."""
    y = np.linspace(-50, 50, positions)
    lines = [np.stack([np.full_like(y, 4.0 * i), y, np.full_like(y, 10.0)], axis=-1) for i in range(n)]
    return NamedBundle("straight", "posterior to anterior", np.stack(lines))


def rows_of(bundle, image, sd=0.1, brain=BRAIN, in_t1=None, affine=AFFINE, **others):
    points = bundle.points if in_t1 is None else in_t1
    own = {"synthetic": image, "sd": np.full(SHAPE, sd, np.float32)}
    samples = {name: sample(Volume(data, affine), brain, points) for name, data in own.items()}
    samples |= {name: sample(volume, volume.data != 0, points) for name, volume in others.items()}
    return bundle_rows(bundle, samples)


def column(rows, name):
    return np.array([row[name] for row in rows], float)


def test_streamlines_of_a_bundle_run_from_the_end_that_is_named_first():
    assert len(NAMED) == 96
    for bundle in NAMED.values():
        course = bundle.points.mean(axis=0)
        forward, reversed_ = (
            np.linalg.norm(bundle.points - one, axis=-1).mean(axis=1) for one in (course, course[::-1])
        )
        assert (forward < reversed_).mean() > 0.95, bundle.name
        axis = AXES[bundle.ends.split(" to ")[0]]
        assert course[-1, axis] > course[0, axis], bundle.name


def test_bundles_of_both_sides_run_alike_and_lie_in_their_hemisphere():
    pairs = {name: re.sub(r"(?<=[a-z])L(?=_|$)", "R", name) for name in NAMED}
    pairs = {name: other for name, other in pairs.items() if other != name}
    assert len(pairs) == 42
    for left, right in ((NAMED[name], NAMED[other]) for name, other in pairs.items()):
        assert left.ends == right.ends
        assert left.points[..., 0].mean() < 0 < right.points[..., 0].mean(), left.name


def test_bundles_lie_in_the_white_matter_of_the_template_where_they_are():
    wm = Volume(load_template("wm", 2.0).data, load_template("wm", 2.0).affine)
    points = np.concatenate([NAMED[name].points for name in MAIN])
    values = {
        shift: sample(wm, np.ones(wm.shape), points + shift).values for shift in itertools.product((-4, 0, 4), repeat=3)
    }
    assert (values[0, 0, 0] > 0.5).mean() > 0.75
    assert max(values, key=lambda shift: values[shift].mean()) == (0, 0, 0), "no shift lies deeper"


def test_the_bundles_are_small_and_their_licence_lies_beside_them():
    licence = FILE.with_name("LICENSE").read_text()
    assert FILE.stat().st_size < 1_000_000
    assert "CC BY-SA 4.0" in licence and "10.1038/s41467-022-32595-4" in licence and "Changes" in licence


def test_a_map_that_is_linear_along_a_bundle_has_a_linear_profile_with_its_interval():
    rows = rows_of(straight(), (0.4 + 0.002 * GRID[..., 1]).astype(np.float32), sd=0.1)
    np.testing.assert_allclose(column(rows, "synthetic"), np.linspace(0.3, 0.5, 21), atol=1e-5)
    np.testing.assert_allclose(column(rows, "high") - column(rows, "low"), 2 * 1.96 * 0.1, atol=1e-5)
    np.testing.assert_allclose(column(rows, "position"), np.linspace(0, 1, 21), atol=1e-4)
    assert (column(rows, "n_points") == 5).all()


def test_the_core_of_a_bundle_counts_most_and_one_streamline_has_all_weight():
    weights = core_weights(straight().points)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert (weights[2] > weights[1]).all() and (weights[1] > weights[0]).all()
    assert (core_weights(straight(1).points) == 1).all()
    bent = (0.02 * GRID[..., 0]).astype(np.float32)
    expected = (weights * 0.02 * straight().points[..., 0]).sum(axis=0)
    np.testing.assert_allclose(column(rows_of(straight(), bent), "synthetic"), expected, atol=1e-5)


def test_points_outside_the_brain_do_not_count_and_a_position_with_too_few_is_missing():
    image = np.full(SHAPE, 0.5, np.float32)
    rows = rows_of(straight(), image, brain=GRID[..., 1] < 1)
    ahead = np.linspace(-50, 50, 21) > 2
    assert all((row["synthetic"] is None and row["low"] is None) == late for row, late in zip(rows, ahead, strict=True))
    np.testing.assert_allclose(column(rows, "synthetic")[~ahead], 0.5, atol=1e-6, err_msg="no zero is mixed in")
    assert (column(rows, "n_points")[ahead] == 0).all()
    beyond = straight().points + np.array([0, 0, 500])
    assert all(row["synthetic"] is None for row in rows_of(straight(), image, in_t1=beyond)), "out of the field of view"
    half = Samples(np.ones((2, 3)), np.array([[True, True, False], [True, False, False]]))
    np.testing.assert_equal(profile(half, np.array([[0.5, 0.4, 0.4], [0.5, 0.6, 0.6]])), [1, np.nan, np.nan])


def test_points_are_carried_by_the_inverse_of_affine_and_displacement():
    to_mni = np.eye(4)
    to_mni[:3] = [[1.1, 0.1, 0, 3], [0, 0.9, 0, -5], [0, 0.05, 1, 2]]
    shift = np.array([2.0, -3.0, 1.0])
    points = straight().points
    inverse = Volume(np.broadcast_to(-shift, (*SHAPE, 3)), AFFINE)
    found = to_t1_space(points, to_mni, inverse)
    np.testing.assert_array_equal(to_t1_space(points[0, 0], to_mni, inverse), found[0, 0], "one point")
    np.testing.assert_allclose(apply_affine(to_mni, found + shift), points, atol=1e-9)


def test_a_rotated_head_has_the_same_profile():
    bundle = NAMED["Association_ArcuateFasciculusL"]
    rng = np.random.default_rng(0)
    image = resample(Volume(rng.random((20, 24, 20)).astype(np.float32), np.diag([10.0, 10, 10, 1]) + 0), AFFINE, SHAPE)
    inverse = np.full((*SHAPE, 3), [1.0, 2.0, -1.0])
    straight_rows = rows_of(bundle, image.data, in_t1=to_t1_space(bundle.points, np.eye(4), Volume(inverse, AFFINE)))
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler("xyz", (20, -15, 30), degrees=True).as_matrix()
    rotation[:3, 3] = 5, -8, 12
    rotated = Volume(inverse @ rotation[:3, :3].T, rotation @ AFFINE)
    in_t1 = to_t1_space(bundle.points, np.linalg.inv(rotation), rotated)
    rotated_rows = rows_of(bundle, image.data, in_t1=in_t1, affine=rotation @ AFFINE)
    assert [row["n_points"] for row in rotated_rows] == [row["n_points"] for row in straight_rows]
    np.testing.assert_allclose(column(rotated_rows, "synthetic"), column(straight_rows, "synthetic"), atol=2e-6)


def test_other_maps_have_profiles_where_they_are_not_0():
    linear = (0.4 + 0.002 * GRID[..., 1]).astype(np.float32)
    others = {"atlas": Volume(linear, AFFINE), "measured": Volume(np.where(GRID[..., 1] > 0, linear, 0), AFFINE)}
    rows = rows_of(straight(), np.full(SHAPE, 0.5, np.float32), **others)
    np.testing.assert_allclose(column(rows, "atlas"), np.linspace(0.3, 0.5, 21), atol=1e-5)
    measured = np.linspace(-50, 50, 21) > 0
    np.testing.assert_allclose(column(rows, "measured")[measured], column(rows, "atlas")[measured], atol=1e-5)
    assert all(row["measured"] is None for row in itertools.compress(rows, ~measured))


def test_the_atlas_is_deformed_to_the_t1(tmp_path):

    in_template = Volume((0.4 + 0.002 * GRID[..., 1]).astype(np.float32), AFFINE)
    to_mni = np.eye(4)
    to_mni[:3, 3] = 4, -6, 2
    forward = np.full((*SHAPE, 3), [0.0, 10.0, 0.0])
    deformed = Deformed(forward, -forward, {"kept": "deformation"})
    image = Volume(np.full(SHAPE, 0.5, np.float32), AFFINE)
    subject = Subject(image, Volume(BRAIN, AFFINE), to_mni)
    record = {"target": "fa", "model": "m", "weights": "w", "simulated": False}
    outputs = profile_outputs(tmp_path / "fa.nii.gz")
    write_profiles(subject, deformed, Translated(image, image), record, {"atlas": in_template}, outputs, [])
    rows = [row for row in read_table(outputs.profiles) if row["bundle"] == "Commissure_CorpusCallosum_Body"]
    bundle = NAMED["Commissure_CorpusCallosum_Body"]
    expected = 0.4 + 0.002 * (core_weights(bundle.points) * bundle.points[..., 1]).sum(axis=0)
    np.testing.assert_allclose(column(rows, "atlas"), expected, atol=1e-4)
    assert read_json(tmp_path / "fa_bundles.json")["Deformation"] == {"kept": "deformation"}
    trx = trx_file_memmap.load(str(tmp_path / "fa_tractogram.trx"))
    assert {*trx.groups} == {*NAMED} and "CC BY-SA" in read_json(tmp_path / "fa_tractogram.json")["BundlesLicense"]
    # Back by the affine and by the displacement, which is the same everywhere inside the grid.
    first = int(trx.groups[bundle.name][0])
    np.testing.assert_allclose(trx.streamlines[first], bundle.points[0] - [4, -6, 2] - [0, 10, 0], atol=1e-4)


def test_the_streamlines_of_a_map_with_a_bids_name_have_one_too():
    map_of = Path("sub-1_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz")
    assert profile_outputs(map_of).streamlines == Path("sub-1_space-T1w_desc-bundles_tractogram.trx")


def table(**columns):
    n = len(next(iter(columns.values())))
    given = {"low": [0.2] * n, "high": [0.6] * n} | columns
    return [{"bundle": "b"} | {name: given[name][i] for name in given} for i in range(n)]


def test_means_and_differences_are_over_the_positions_that_every_map_has():
    synthetic, atlas = [0.4, 0.5, 0.6, 0.7, 0.8, 0.1], [0.5, 0.6, 0.7, 0.8, 0.9, 0.9]
    measured = [0.4, 0.5, 0.6, 0.7, 0.9, None]
    rows = table(synthetic=synthetic, atlas=atlas, measured=measured, second_measured=measured)
    row = mean_row(rows)
    assert row["n_positions"] == 5 and row["synthetic"] == 0.6 and row["atlas"] == 0.7
    assert row["added"] == pytest.approx(0.1) and row["added_over_interval"] == pytest.approx(0.5)
    assert row["error_synthetic"] == pytest.approx(0.02) and row["error_atlas"] == pytest.approx(0.08)
    assert row["error_second_measured"] == 0 and row["r_second_measured"] == 1
    assert row["r_synthetic"] == row["r_atlas"] < 1
    found = agreement(rows)
    assert found["synthetic"]["mae"] == pytest.approx(0.02) and found["atlas"]["n_positions"] == 5
    assert set(row) <= set(MEAN_COLUMNS)


def test_a_bundle_without_values_has_none_and_a_missing_map_no_column():
    empty = mean_row(table(synthetic=[None, None]))
    assert empty == {"bundle": "b", "n_positions": 0}
    row = mean_row(table(synthetic=[0.4, 0.5]))
    assert "added" not in row and "r_synthetic" not in row and agreement(table(synthetic=[0.4, 0.5])) == {}


def test_the_map_of_a_model_is_found():
    data, to_voxel = np.random.default_rng(0).random((4, 5, 6)), np.linalg.inv(AFFINE)
    for tensors in (
        {"mean": data, "sd": data, "affine": AFFINE},
        {"inputs.prior.values": data[None], "inputs.prior.to_voxel": to_voxel, "head.weight": data},
    ):
        found = reference_map(tensors)
        np.testing.assert_array_equal(found.data, data)
        np.testing.assert_allclose(found.affine, AFFINE)
    assert reference_map({"intercept": data, "slope": data}) is None
    record = {"target": "fa", "calibration": {"intercept": 0.1, "slope": 0.5, "n_subjects": 3}}
    data[0] = 0
    own = compared_maps({"mean": data, "sd": data, "affine": AFFINE}, record, ProfileInputs())["atlas"].data
    np.testing.assert_allclose(own[1:], 0.1 + 0.5 * data[1:])
    assert not own[0].any(), "outside the brain"


def test_maps_that_have_no_profiles_are_refused(tmp_path):
    save(tmp_path / "percent.nii.gz", Volume(np.full((4, 4, 4), 40.0), np.eye(4)))
    fa = {"target": "fa", "spacing_mm": 3.0}
    with pytest.raises(DataError, match="not a measured map of FA"):
        compared_maps({}, fa, ProfileInputs(measured=(tmp_path / "percent.nii.gz",)))
    with pytest.raises(DataError, match="a second measurement"):
        compared_maps({}, fa, ProfileInputs(measured=(tmp_path / "percent.nii.gz",) * 3))
    with pytest.raises(DataError, match="of scalar maps"):
        compared_maps({}, fa | {"target": "dti"}, ProfileInputs())


@pytest.fixture(scope="module")
def translated(tmp_path_factory):
    """Folder of the template's T1, translated by a line with a quick deformation, and its profiles."""
    folder = tmp_path_factory.mktemp("profiles")
    template = load_template("t1", 3.0)
    save(folder / "t1.nii.gz", Volume(1000 * template.data, template.affine))
    save(folder / "atlas.nii.gz", Volume(0.1 + 0.4 * template.data, template.affine))
    quick = Deformation(iterations=(2,), radius=2).model_dump(mode="json")
    write_line(folder, 0.05, 0.4, shape=[64, 80, 64], t1_range_percent=[1, 99], deformation=quick)
    return folder


def call(folder, *further, out="fa.nii.gz"):
    return run(
        "translate", folder / "t1.nii.gz", "--weights", folder / "model.safetensors", "--out", folder / out, *further
    )


def test_the_command_writes_tables_with_their_sidecars_and_a_figure(translated):
    first = call(translated, "--bundles")
    assert first.exit_code == 0, first.output
    outputs = profile_outputs(translated / "fa.nii.gz")
    assert str(outputs.figure) in first.output and Image.open(outputs.figure).size[0] > 1000
    again = ("--measured", translated / "fa.nii.gz")
    result = call(translated, "--bundles", *again, *again, "--atlas", translated / "atlas.nii.gz", out="fa2.nii.gz")
    assert result.exit_code == 0, result.output
    outputs = profile_outputs(translated / "fa2.nii.gz")
    for path, columns, n in ((outputs.profiles, PROFILE_COLUMNS, 96 * 40), (outputs.means, MEAN_COLUMNS, 96)):
        rows, sidecar = read_table(path), read_json(path.with_suffix(".json"))
        assert len(rows) == n and tuple(rows[0]) == columns
        assert all(sidecar[name]["Description"] for name in columns)
        assert "CC BY-SA" in sidecar["BundlesLicense"]
        assert sidecar["Sources"] == ["t1.nii.gz", "model.safetensors", "fa.nii.gz", "fa.nii.gz", "atlas.nii.gz"]
    found = sidecar["Agreement"]
    assert found["second_measured"]["r"] == 1 and found["second_measured"]["mae"] == 0
    assert found["synthetic"]["r"] > 0.99 and found["synthetic"]["mae"] < 0.01, "the map itself, from its own voxels"
    assert found["synthetic"]["n_bundles"] > 80
    callosum = next(row for row in rows if row["bundle"] == "Commissure_CorpusCallosum_Body")
    assert float(callosum["synthetic"]) > 0.3 and float(callosum["error_atlas"]) > float(callosum["error_synthetic"])


def test_of_a_folder_profiles_lie_beside_each_map(translated, tmp_path):
    root = tmp_path / "bids"
    (root / "sub-1/anat").mkdir(parents=True)
    (root / "sub-1/anat/sub-1_T1w.nii.gz").write_bytes((translated / "t1.nii.gz").read_bytes())
    called = ("translate", root, "--weights", translated / "model.safetensors", "--out", tmp_path / "out", "--bundles")
    atlas = ("--atlas", translated / "atlas.nii.gz")
    result = run(*called, *atlas)
    assert result.exit_code == 0, result.output
    (means,) = (tmp_path / "out").rglob("*_bundlemeans.tsv")
    assert means.with_name(means.name.replace("_bundlemeans.tsv", ".nii.gz")).exists()
    assert len(read_table(means)) == 96 and all(row["atlas"] for row in read_table(means))
    assert "*_bundlemeans.*" in (tmp_path / "out/.bidsignore").read_text().split()
    assert run(*called, *atlas, "--measured", translated / "fa.nii.gz").exit_code == 2
    wrong = run(*called[:-3], "--out", tmp_path / "none", "--bundles", "--atlas", translated / "model.json")
    assert wrong.exit_code == 1 and not (tmp_path / "none").exists(), wrong.output


def test_without_the_libraries_of_figures_a_message_names_the_extra(tmp_path, monkeypatch, capsys):
    for name in ("m2m.figures.profile_figure", "m2m.figures.style"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "fa_bundles.png").write_bytes(b"of an earlier call")
    draw([], [], {"target": "fa", "simulated": False}, tmp_path / "fa_bundles.png")
    printed = capsys.readouterr().out
    assert "fa_bundles.png was not drawn: matplotlib is not installed" in printed and "report" in printed
    assert not [*tmp_path.iterdir()]


def test_wrong_calls_are_refused_before_anything_is_written(translated):
    measured = ("--measured", translated / "t1.nii.gz")
    assert call(translated, *measured, out="no.nii.gz").exit_code == 2
    assert call(translated, "--bundles", "--anat-status", translated / "s.json", out="no.nii.gz").exit_code == 2
    outputs = profile_outputs(translated / "no.nii.gz")
    overwritten = call(translated, "--bundles", "--measured", outputs.profiles, out="no.nii.gz")
    assert overwritten.exit_code == 2 and "overwritten" in overwritten.output
    refused = call(translated, "--bundles", *measured, out="no.nii.gz")
    assert refused.exit_code == 1 and "not a measured map of FA" in refused.output
    assert not [*translated.glob("no*")]


@pytest.mark.parametrize("given", [("atlas",), ("atlas", "measured", "second_measured")])
def test_the_figure_is_drawn_of_what_is_given(given, tmp_path):
    names = ("synthetic", "low", "high", *given)
    drawn, rows = [*MAIN][:-1], []
    for name, p in itertools.product(drawn, np.linspace(0, 1, 7)):
        values = {one: 0.4 + 0.1 * p + 0.02 * i for i, one in enumerate(names)}
        rows.append({"bundle": name, "position": p, "n_points": 9} | values)
    means = [{"ends": "left to right"} | mean_row([row for row in rows if row["bundle"] == name]) for name in drawn]
    draw_profiles(rows, means, "FA", True, tmp_path / "figure.png")
    assert len(Image.open(tmp_path / "figure.png").convert("RGB").getcolors(1 << 24)) > 50
    assert set(MAIN) <= set(NAMED)


def test_a_task_with_an_atlas_shows_the_profiles_of_a_test_participant(tmp_path):
    unit, models = "sub-02", tree.MODELS[:2]
    root = tree.run_evaluation(tree.build(tmp_path / "ds", {"sub-01": "train", unit: "test"}), models)
    at, to_mni = files_of(unit, root), np.eye(4)
    to_mni[:3, 3] = -apply_affine(tree.AFFINE, (np.array(tree.SHAPE) - 1) / 2)
    write_json(at("anat-status"), read_json(at("anat-status")) | {"grid_to_mni": to_mni.tolist()})
    tree.save(at("inverse-deformation"), np.zeros((*tree.SHAPE, 3)))
    task = Task(models=models)
    study = Study(root, tree.TASK, task, load_tables(root, tree.TASK, models, "metrics"), {unit: unit}, atlas="mean")
    _, rows = bundle_profiles_figure(study)
    assert {row["bundle"] for row in rows} == set(MAIN) and {row["unit"] for row in rows} == {unit}
    there = [row for row in rows if row["synthetic"] is not None]
    assert len(there) > len(rows) / 2
    assert (column(there, "low") < column(there, "synthetic")).all()
    error, error_of_atlas = (
        np.abs(column(there, name) - column(there, "measured")).mean() for name in ("synthetic", "atlas")
    )
    assert error < error_of_atlas
    figure, none = bundle_profiles_figure(replace(study, atlas=None))
    assert none == [] and any("No model of this task is an atlas" in text.get_text() for text in figure.findobj(Text))
