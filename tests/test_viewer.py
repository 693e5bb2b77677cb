"""Data of the page's viewer: maps at low precision, subsampled streamlines, NiiVue's class."""

import base64
import gzip
import io

import nibabel as nib
import numpy as np
import pytest
import report_tree as tree
from nibabel.streamlines import ArraySequence

from m2m.diffusion.density import save_tractogram
from m2m.evaluate.streamlines import reference_streamlines
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.volume import Volume, load
from m2m.options import Report
from m2m.report import niivue, viewer
from m2m.report.named_streamlines import UNNAMED, Regions, by_bundle

SUBJECTS = {"sub-01": "train", "sub-02": "test", "sub-03": "test", "sub-04": "test"}
TASKS = {name: tree.TASKS[name] for name in (tree.TASK, "t1-dti")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tree.build(tmp_path_factory.mktemp("results") / "ds", SUBJECTS, TASKS)
    tree.run_evaluation(root)
    return root


@pytest.fixture(scope="module")
def shown(root):
    rois = tree.evaluation_options(root).rois
    return viewer.viewer(root, TASKS, {unit: unit for unit in SUBJECTS}, Report(), rois)


def unpacked(text):
    return gzip.decompress(base64.b64decode(text))


def subject(shown, unit):
    (one,) = [one for one in shown["data"]["subjects"] if one["label"].startswith(unit)]
    return one


def test_every_map_in_the_page_is_the_map_on_disk_to_half_a_quantisation_step(root, shown):
    ends = {"measured": 0.0, "synthetic": 0.0, "error": 0.0}
    for layer in shown["data"]["layers"]:
        ends[layer["key"]] = layer["high"]
    maps = subject(shown, "sub-03")["maps"]
    assert set(maps) == {"t1", "measured", "synthetic", "sd", "error"}
    measured = load(unit_path(root, "fa", "sub-03", "sub-03"))
    folder = root / "synthetic" / tree.TASK / "macro2micro"
    synthetic = load(unit_path(folder, "synth-fa", "sub-03", "sub-03"))
    known = {"measured": measured.data, "synthetic": synthetic.data, "error": synthetic.data - measured.data}
    for key, data in known.items():
        image = nib.Nifti1Image.from_bytes(unpacked(maps[key]))
        place = np.linalg.inv(measured.affine) @ image.affine
        np.testing.assert_array_equal(place[:3, :3], np.eye(3))
        at = place[:3, 3].round().astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(at, image.shape, strict=True))
        top, low = ends[key], -ends[key] if key == "error" else 0
        step = (top - low) / 254
        found, expected = image.get_fdata(), data[box].clip(low, top + step)
        assert np.abs(found - expected).max() <= step / 2 + 1e-6
        assert expected.std() > 3 * step
        # Nothing of the brain lies outside the box.
        assert np.count_nonzero(data) == np.count_nonzero(data[box])
        assert np.abs(found[data[box] == 0]).max() < 1e-6


def test_no_voxel_outside_the_brain_is_in_the_page(root, tmp_path):
    """Voxels of the face are removed from the T1."""
    root = tree.build(tmp_path / "ds", {"sub-02": "test"})
    path = unit_path(root, "t1w", "sub-02", "sub-02")
    t1 = tree.load(path)
    tree.save(path, t1 + 400 * (t1 == 0))
    maps = viewer.load_maps(root, tree.TASKS[tree.TASK], tree.TASK, "sub-02", "sub-02")
    assert np.count_nonzero(maps["t1"].data) <= np.count_nonzero(t1)
    assert 0.9 < maps["t1"].data.max() < 2


def test_subjects_are_chosen_from_the_best_to_the_worst():
    rows = [
        {"unit": f"sub-{i}", "region": region, "ssim": ssim}
        for i, ssim in enumerate(["0.5", "0.9", None, "0.7", "0.8", "0.6"])
        for region in ("brain", "wm")
    ]
    units = [unit for unit, _ in viewer.chosen_units(rows, 3)]
    assert units == ["sub-1", "sub-3", "sub-0"]
    assert viewer.chosen_units(rows, 1)[0] == ("sub-1", "sub-1, SSIM 0.900")
    assert len(viewer.chosen_units(rows, 99)) == 5
    assert viewer.chosen_units(rows, 0) == viewer.chosen_units([], 3) == []


def test_subsampled_streamlines_keep_their_ends_and_their_course():
    t = np.linspace(0, np.pi, 200)[:, None]
    arc = np.concatenate([40 * np.cos(t), 40 * np.sin(t), 0 * t], axis=1)
    lines = ArraySequence([(arc + np.array([0, 0, i])).astype(np.float32) for i in range(50)])
    chosen = by_bundle(lines, 20, None)[UNNAMED]
    found = nib.streamlines.load(io.BytesIO(viewer.thinned(chosen))).streamlines
    assert len(found) == 20
    for line in found:
        assert len(line) == np.ceil(40 * np.pi / viewer.POINTS_MM) + 1
        height = line[0, 2]
        np.testing.assert_allclose(line[[0, -1]], [[40, 0, height], [-40, 0, height]], atol=0.126)
        np.testing.assert_allclose(np.hypot(line[:, 0], line[:, 1]), 40, atol=0.2)
    assert {found[0][0, 2], found[-1][0, 2]} == {0, 49}
    assert len(by_bundle(lines, 99, None)[UNNAMED]) == 50


def test_a_streamline_is_shown_by_the_name_of_the_region_that_holds_most_of_it():
    labels = np.zeros((20, 20, 20), np.int32)
    labels[:10], labels[10:, :10] = 7, 3
    regions = Regions(Volume(labels, np.eye(4)), {7: "CST_left"})
    lines = ArraySequence([[[x, y, 5], [x, y, 15]] for x, y in ((2, 2), (15, 2), (15, 15), (4, 15))])
    found = by_bundle(lines, 99, regions)
    assert list(found) == ["CST_left", "roi-3", UNNAMED]
    assert [[line[0, 0] for line in bundle] for bundle in found.values()] == [[2, 4], [15], [15]]


def test_measured_streamlines_are_in_the_space_of_the_t1(root, shown):
    found = subject(shown, "sub-02")["streamlines"]
    assert list(found) == ["measured", "synthetic (t1-dti, macro2micro)"]
    known = reference_streamlines(root, "sub-02", "sub-02")
    texts = found["measured"].items()
    bundles = {name: nib.streamlines.load(io.BytesIO(unpacked(text))).streamlines for name, text in texts}
    assert {*bundles} >= {*tree.BUNDLES.values()}
    assert sum(map(len, bundles.values())) == min(len(known), Report().viewer_streamlines)
    ends = np.array([line[0] for line in known])
    for line in bundles["left CST"]:
        assert np.abs(ends - line[0]).max(axis=1).min() <= viewer.ROUNDED_MM / 2 + 1e-3


def test_streamlines_of_fields_can_be_selected_where_they_exist(root):
    line = np.stack([np.arange(9.0), np.zeros(9), np.zeros(9)], axis=1).astype(np.float32)
    datasets = {
        "measured": root,
        "synthetic (t1-dti, macro2micro)": root / "synthetic/t1-dti/macro2micro",
    }
    for n, dataset in enumerate(datasets.values(), 1):
        drawn = ArraySequence([line] * n)
        save_tractogram(unit_path(dataset, "field-tractogram", "sub-01", "sub-01"), drawn)
    found = viewer.load_streamlines(root, TASKS, "sub-01", "sub-01")
    assert [len(found[f"{name}, continuous field"]) for name in datasets] == [1, 2]
    np.testing.assert_array_equal(found["measured, continuous field"][0], line)


def test_fine_maps_are_made_coarser_and_stay_in_place(root):
    maps = viewer.load_maps(root, TASKS[tree.TASK], tree.TASK, "sub-02", "sub-02")
    section = Report(viewer_spacing_mm=12)
    one = viewer.in_page(maps, viewer.limits([maps]), {}, section)
    image = nib.Nifti1Image.from_bytes(unpacked(one["maps"]["measured"]))
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), 12)

    def centre(data, affine):
        weight, index = data[data > 0], np.argwhere(data > 0)
        return nib.affines.apply_affine(affine, np.average(index, axis=0, weights=weight))

    shift = centre(image.get_fdata(), image.affine) - centre(maps["measured"].data, maps["measured"].affine)
    assert np.abs(shift).max() < 1.5


def test_errors_and_their_standard_deviations_share_one_scale(shown):
    layers = {layer["key"]: layer for layer in shown["data"]["layers"]}
    assert layers["error"]["high"] == layers["sd"]["high"]
    assert layers["measured"]["high"] == layers["synthetic"]["high"]
    assert 0 < layers["error"]["high"] < 5 * tree.FA_ERROR


def test_a_subject_whose_map_is_missing_is_skipped_and_named(root, tmp_path, capsys):
    root = tree.build(tmp_path / "ds", SUBJECTS)
    tree.run_evaluation(root)
    folder = root / "synthetic" / tree.TASK / "macro2micro"
    (folder / unit_path("", "synth-fa", "sub-03", "sub-03").lstrip("/")).unlink()
    found = viewer.viewer(root, {tree.TASK: TASKS[tree.TASK]}, {u: u for u in SUBJECTS}, Report())
    units = [one["label"][:6] for one in found["data"]["subjects"]]
    assert sorted(units) == ["sub-02", "sub-04"]
    assert "sub-03 is skipped: is missing" in capsys.readouterr().out


def test_the_installed_module_exports_niivue(tmp_path):
    bundle = niivue.find_bundle(None)
    assert bundle.source.startswith("ipyniivue ") and "BSD 2-Clause" in bundle.licence
    assert "as Niivue}" in bundle.module.splitlines()[-1]


def test_a_module_of_npm_is_used_unchanged_with_its_licence(tmp_path):
    path = tmp_path / "package" / "dist" / "index.js"
    path.parent.mkdir(parents=True)
    path.write_text("class Niivue {}\nexport {\n  NVImage,\n  Niivue\n};\n")
    (tmp_path / "package" / "LICENSE").write_text("as you like")
    bundle = niivue.find_bundle(path)
    assert bundle == niivue.Bundle(path.read_text(), "the file index.js", "as you like")


def test_a_module_without_the_class_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "index.js"
    path.write_text("export default {};")
    with pytest.raises(DataError, match=r"does not contain NiiVue's class.*viewer_bundle"):
        niivue.with_class(path)
    with pytest.raises(DataError, match="is no file"):
        niivue.find_bundle(tmp_path / "nowhere.js")


def test_without_niivue_the_page_has_no_maps(root, monkeypatch):
    monkeypatch.setattr(niivue.importlib.util, "find_spec", lambda name: None)
    found = viewer.viewer(root, TASKS, {unit: unit for unit in SUBJECTS}, Report())
    assert found == {"name": tree.TASK, "model": "macro2micro", "bundle": None}


def test_eight_bits_represent_zero_and_clip_values_outside_the_range():
    data = np.array([-0.4, -0.1, 0, 0.1, 0.4], np.float32).reshape(5, 1, 1)
    image = nib.Nifti1Image.from_bytes(viewer.eight_bits(Volume(data, np.eye(4)), -0.3, 0.3))
    found = image.get_fdata().ravel()
    assert abs(found[2]) < 1e-6
    np.testing.assert_allclose(found, [-0.3, -0.1, 0, 0.1, 0.3], atol=0.3 / 120)
