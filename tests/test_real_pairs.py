"""Real pairs: what repeated measurements allow, lines, bundles, and the stages on made-up scans."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohort_tree import add_dwi, add_t1
from line_model import write_line
from pydantic import ValidationError
from scipy import ndimage

from m2m.evaluate import compare_pairs
from m2m.evaluate.bundle_means import BundlePoints, bundle_means, points_in_t1
from m2m.evaluate.ceiling import expected_of_perfect
from m2m.evaluate.compare_pairs import Moments
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metrics import pearson, psnr
from m2m.figures import pair_panels
from m2m.io.bids import files_of, pair_map
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.io.volume import Volume, load, save
from m2m.models.pretrained import compared_weights
from m2m.options import Config, Real
from m2m.phantom.simulate import simulate
from m2m.structural import group_map
from m2m.structural.named_bundles import NamedBundle
from m2m.structural.template import load_template
from m2m.translate import real_pairs

PHANTOM = {"n_subjects": 2, "t1_spacing_mm": 4.0, "dwi_spacing_mm": 5.0, "n_directions": 12}
SPACING_MM = 5.0
REAL = {"spacing_mm": SPACING_MM}


# -- what repeated measurements allow -----------------------------------------------------------------


def test_two_measurements_tell_what_a_map_without_error_reaches(rng):
    truth = 0.4 + 0.1 * rng.standard_normal((40, 50, 60))
    first, second = (truth + 0.05 * rng.standard_normal(truth.shape) for _ in range(2))
    region = np.ones(truth.shape, bool)
    expected = expected_of_perfect(first, second, region)
    assert expected["pearson"] == pytest.approx(np.sqrt(0.8), abs=2e-3)
    assert expected["psnr"] == pytest.approx(10 * np.log10(1 / 0.05**2), abs=0.05)
    # It is what the truth reaches.
    assert expected["pearson"] == pytest.approx(pearson(first, truth), abs=3e-3)
    assert expected["psnr"] == pytest.approx(psnr(first, truth, region), abs=0.05)


def test_the_ceiling_is_of_its_region_and_scales_with_the_range(rng):
    truth = rng.random((10, 10, 10))
    region = np.zeros(truth.shape, bool)
    region[:5] = True
    again = np.where(region, truth, -truth)
    assert expected_of_perfect(truth, again, region) == {"pearson": pytest.approx(1), "psnr": np.inf}
    noisy = truth + 0.1 * rng.standard_normal(truth.shape)
    one, ten = (expected_of_perfect(truth, noisy, region, data_range)["psnr"] for data_range in (1, 10))
    assert ten == pytest.approx(one + 20)


def test_measurements_that_do_not_agree_have_no_ceiling(rng):
    truth, region = rng.random((4, 4, 4)), np.ones((4, 4, 4), bool)
    assert np.isnan([*expected_of_perfect(truth, -truth, region).values()]).all()
    assert np.isnan([*expected_of_perfect(truth, truth, ~region).values()]).all()


# -- lines and bundles --------------------------------------------------------------------------------


def test_a_line_from_sums_is_that_of_the_other_voxels(rng):
    x, y = rng.random((2, 3, 50))
    own, others = Moments.of(x[0], y[0]), compare_pairs.total({str(i): Moments.of(x[i], y[i]) for i in range(3)})
    slope, intercept = others.without(own).line()
    assert (slope, intercept) == pytest.approx(tuple(np.polyfit(x[1:].ravel(), y[1:].ravel(), 1)))
    assert own.without(own).line() is None
    assert Moments.of(np.full(9, 0.3), y[0][:9]).line() is None


def test_bundles_are_carried_to_the_t1_and_averaged_where_the_map_was_measured():
    affine = np.diag([2.0, 2, 2, 1])
    mask = Volume(np.ones((10, 10, 10), bool), affine)
    mask.data[:, :, 6:] = False
    image = np.broadcast_to(np.arange(10.0) / 10, (10, 10, 10))
    to_mni, inverse = np.eye(4), Volume(np.broadcast_to([0.0, 0, 4], (10, 10, 10, 3)), affine)
    to_mni[:3, 3] = 2, 0, 0
    straight = np.array([[[4.0, 4, z] for z in (0, 2, 4, 6)]])
    bundles = [NamedBundle("inside", "", straight), NamedBundle("mostly outside", "", straight + np.array([0, 0, 6]))]
    points = points_in_t1(bundles, to_mni, inverse)
    np.testing.assert_allclose(points.points_mm[0], [2, 4, 4])
    found = bundle_means(image, {"twice": 2 * image, "constant": np.full(image.shape, 0.3)}, mask, points)
    (one,) = found["twice"]
    # Slices 2 to 5, all inside; of the other bundle one point of four is.
    assert (one.name, one.reference, one.synthetic, one.n_voxels) == ("inside", 0.35, 0.7, 4)
    assert found["constant"][0].synthetic == 0.3
    none = BundlePoints([], np.empty(0, int), np.empty((0, 3)))
    assert bundle_means(image, {"a": image}, mask, none) == {"a": []}


def test_a_shifted_group_map_is_brought_to_the_template(monkeypatch):
    monkeypatch.setattr(group_map, "TEMPLATE_MM", 5.0)
    wm, gm, brain = (load_template(tissue, 5.0) for tissue in ("wm", "gm", "brain"))
    fa = ((0.45 * wm.data + 0.12 * gm.data + 0.05) * brain.data).astype(np.float32)
    shifted = wm.affine.copy()
    shifted[2, 3] += 7
    found = group_map.to_template(Volume(fa, shifted))
    inside = brain.data > 0
    unmoved = np.abs(np.roll(fa, 1, axis=2) - fa)[inside].mean()
    assert np.abs(found.data - fa)[inside].mean() < 0.3 * unmoved
    assert not found.data[~inside].any()


# -- the section --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "problem"),
    [({"atlas-syn": "a"}, "another row"), ({"atlassyn": "a"}, "another row"), ({"a-b": "x", "ab": "y"}, "hyphens")],
)
def test_rows_have_names_of_their_own(weights, problem):
    with pytest.raises(ValidationError, match=problem):
        Real(weights=weights)


def test_a_study_may_be_of_pairs_alone():
    config = Config.model_validate({"dataset": "pairs", "real": {"bids_dir": "bids"}})
    assert not config.models and not config.tasks


def test_weights_are_paths_or_names_of_installed_ones(tmp_path):
    path = str(tmp_path / "model.safetensors")
    assert compared_weights({"mine": path}, "fa") == {"mine": tmp_path / "model.safetensors"}
    assert Real(weights={"mine": path, "other": "t1-fa"}).weight_files == [path]
    with pytest.raises(DataError, match="no weights named"):
        compared_weights({"other": "no-such-weights"}, "fa")


# -- the stages ---------------------------------------------------------------------------------------


def write_config(root, **real):
    config = Config.model_validate(
        {
            "dataset": "d",
            "models": {},
            "tasks": {},
            "deformation": {"iterations": [6, 4], "radius": 2},
            "real": REAL | real,
        }
    )
    path = root / "config.json"
    path.write_text(config.model_dump_json())
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three made-up pairs: one has a second series, one has a T1 without a brain."""
    folder = tmp_path_factory.mktemp("pairs")
    made, root = folder / "made", folder / "results"
    for subject in ("sub-1", "sub-2"):
        simulate(made, subject, None, json.dumps(PHANTOM))
    raw = made / "rawdata"
    (raw / "dataset_description.json").write_text(json.dumps({"Name": "made", "BIDSVersion": "1.10.0"}))
    stem = raw / "sub-1" / "dwi" / "sub-1"
    series = load(stem.with_name("sub-1_dwi.nii.gz"))
    noise = np.random.default_rng(1).normal(0, 0.03 * np.percentile(series.data, 99), series.data.shape)
    save(stem.with_name("sub-1_dir-PA_dwi.nii.gz"), Volume(np.abs(series.data + noise), series.affine))
    for suffix in ("bval", "bvec"):
        text = stem.with_name(f"sub-1_dwi.{suffix}").read_text()
        stem.with_name(f"sub-1_dir-PA_dwi.{suffix}").write_text(text)
    add_t1(raw, "sub-3")
    add_dwi(raw, "sub-3")
    wm, brain = (load_template(tissue, SPACING_MM) for tissue in ("wm", "brain"))
    reference = folder / "fa.nii.gz"
    save(reference, Volume(0.05 + 0.5 * wm.data * brain.data, wm.affine))
    line = write_line(folder / "line", 0.0, 0.5, spacing_mm=6.0, shape=[32, 40, 36])
    config = write_config(folder, bids_dir=str(raw), reference_map=str(reference), weights={"a-line": str(line)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_pairs, "to_template", lambda group: group)  # it is near the template already
        real_pairs.main(root, config)
    compare_pairs.main(root, config)
    pair_panels.main(root, config)
    return root, config


def of(root, unit, folder="real", **wanted):
    """Values of the table, by metric."""
    table = pd.read_csv(root / folder / "metrics.tsv", sep="\t")
    for column, value in ({"unit": unit} | wanted).items():
        table = table[table[column] == value]
    return dict(zip(table["metric"], table["value"], strict=True))


def test_each_pair_is_listed_and_a_bad_one_has_its_problem(study):
    rows = {row["unit"]: row for row in read_table(study[0] / "real/pairs.tsv")}
    assert list(rows) == ["sub-1", "sub-2", "sub-3"]
    assert {row["second_dwi"] for row in (rows["sub-1"], rows["sub-2"])} == {None, rows["sub-1"]["second_dwi"]}
    assert {rows["sub-1"][key] for key in ("dwi", "second_dwi")} == {"sub-1_dwi.nii.gz", "sub-1_dir-PA_dwi.nii.gz"}
    assert not rows["sub-1"]["problem"] and not rows["sub-2"]["problem"] and rows["sub-3"]["problem"]
    assert pair_map(study[0] / "real", "sub-3", "atlas-syn", "fa").stat().st_size == 0


def test_the_table_has_every_row_and_a_second_measurement_beside_its_ceiling(study):
    root, _ = study
    table = pd.read_csv(root / "real/metrics.tsv", sep="\t")
    maps = ["a-line", "atlas-affine", "atlas-syn", "a-line, line", "atlas-affine, line", "atlas-syn, line", "t1, line"]
    assert list(dict.fromkeys(table[table["unit"] == "sub-2"]["map"])) == [*maps, "constant"]
    more = ["constant", "second-measurement", "map-without-error"]
    assert list(dict.fromkeys(table[table["unit"] == "sub-1"]["map"])) == [*maps, *more]
    again, ceiling = (of(root, "sub-1", map=name, region="brain") for name in more[1:])
    assert ceiling["pearson"] == pytest.approx(np.sqrt(again["pearson"]), rel=1e-4)
    assert ceiling["psnr"] > again["psnr"]
    text = (root / "real/metrics.md").read_text()
    assert "## sub-1" in text and f"| map-without-error | {ceiling['pearson']:.3f}".replace("0.", ".") in text


def test_rows_are_what_the_files_give(study):
    root, _ = study
    pairs = root / "real"

    def images(unit):
        at = files_of(unit, pairs)
        inside = in_mask(load(at("target-mask")).data)
        if unit == "sub-1":
            again = files_of(unit, pairs / "second_measurement")
            inside &= in_mask(load(again("target-mask")).data)
        return load(at("fa")).data, load(pair_map(pairs, unit, "atlas-syn", "fa")).data, inside

    (fa, syn, inside), (other_fa, other_syn, other) = images("sub-1"), images("sub-2")
    assert of(root, "sub-1", map="atlas-syn", region="brain")["mae"] == pytest.approx(
        np.abs(fa - syn)[inside].mean(), rel=1e-4
    )
    slope, intercept = np.polyfit(other_syn[other], other_fa[other], 1)
    assert of(root, "sub-1", map="atlas-syn, line", region="brain")["bias"] == pytest.approx(
        (slope * syn + intercept - fa)[inside].mean(), abs=1e-5
    )
    expected = other_fa[other].mean() - fa[inside].mean()
    assert of(root, "sub-1", map="constant", region="brain")["bias"] == pytest.approx(expected, abs=1e-5)
    bundles = pd.read_csv(pairs / "bundles.tsv", sep="\t")
    one = bundles[(bundles["unit"] == "sub-1") & (bundles["map"] == "atlas-syn")]
    assert len(one) > 50
    assert of(root, "sub-1", map="atlas-syn", region="bundles")["pearson"] == pytest.approx(
        pearson(one["reference"], one["synthetic"]), rel=1e-3
    )
    assert "pearson" in of(root, "sub-1", map="constant", region="bundles")
    assert np.isnan(of(root, "sub-1", map="constant", region="bundles")["pearson"])


def test_weights_of_another_grid_are_translated_on_it(study):
    at = files_of("sub-2", study[0] / "real")
    t1, brain = load(at("t1w")).data, in_mask(load(at("brain")).data)
    fa = load(pair_map(study[0] / "real", "sub-2", "a-line", "fa")).data
    inside = ndimage.binary_erosion(brain, iterations=2)  # the brains of both grids differ at the edge
    assert pearson(t1[inside], fa[inside]) > 0.9 and not fa[~brain].any()


def test_the_figure_has_a_row_of_panels_for_each_pair(study):
    root, _ = study
    assert all((root / f"figures/pairs.{extension}").stat().st_size for extension in ("pdf", "svg", "png"))
    rows = pd.read_csv(root / "figures/pairs.tsv", sep="\t")
    shown = ["T1", "measured FA", "a-line", "a-line: difference", "atlas, SyN", "atlas, SyN: difference"]
    assert rows["column"].tolist() == 2 * shown
    one = rows[(rows["unit"] == "sub-1") & (rows["column"] == "atlas, SyN")]["r"].item()
    assert one == pytest.approx(of(root, "sub-1", map="atlas-syn", region="brain")["pearson"], abs=1e-4)


@pytest.mark.parametrize("target", ["tdi", "dti"])
def test_other_maps_than_fa_are_compared_in_a_folder_of_their_own(study, tmp_path, target):
    real, modality = json.loads(study[1].read_text())["real"], MODALITIES[target]
    slope = 0.25 if modality.nature != "tensor" else np.array([0.1, 0, 0, 0.4, 0, 0])
    line = write_line(tmp_path / "line", 0.2, slope, target=target, axes="grid", spacing_mm=6.0, shape=[32, 40, 36])
    made = Path(real["bids_dir"])
    for name in ("dataset_description.json", "sub-2"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / name).symlink_to(made / name)
    about = {"bids_dir": str(tmp_path / "raw"), "reference_map": None, "weights": {"line": str(line)}}
    config, root = write_config(tmp_path, **real | about | {"target": target}), tmp_path / "results"
    for stage in (real_pairs, compare_pairs, pair_panels):
        stage.main(root, config)
    at = files_of("sub-2", root / f"real-{target}")
    inside = in_mask(load(at("target-mask")).data)
    measured, found = (
        load(at(modality.kind)).data,
        load(pair_map(at("t1w").parents[2], "sub-2", "line", modality.kind)).data,
    )
    a, b = (
        compared(target, np.where(inside.reshape(*inside.shape, *[1] * (m.ndim - 3)), m, 0)) for m in (measured, found)
    )
    numbers = of(root, "sub-2", f"real-{target}", map="line", region="brain")
    assert numbers["mae"] == pytest.approx(np.abs(a.image - b.image)[inside].mean(), rel=1e-4)
    assert ("v1_angle" in numbers) == (target == "dti")
    assert f"measured {modality.title} of 1 participant" in (root / f"real-{target}/metrics.md").read_text()
    assert (root / f"figures/real-{target}/pairs.png").stat().st_size
    if target == "tdi":
        assert read_json(at("tractography-status"))["status"] == "ok" and measured.max() > 1


def test_regions_are_compared_where_there_are_labels(study, tmp_path):
    root, _ = study
    wm, brain = (load_template(tissue, SPACING_MM) for tissue in ("wm", "brain"))
    labels = np.where(brain.data > 0, 1 + (wm.data > 0.5) + 2 * (np.arange(wm.shape[0]) > 18)[:, None, None], 0)
    save(tmp_path / "labels.nii.gz", Volume(labels.astype(np.int16), wm.affine), dtype=np.int16)
    real = json.loads((study[1]).read_text())["real"]
    real["rois"] = {"image": str(tmp_path / "labels.nii.gz"), "space": "MNI152"}
    compare_pairs.main(root, write_config(tmp_path, **real))
    found = of(root, "sub-2", map="atlas-syn", region="rois")
    assert found["n"] == 4 and found["concordance"] > 0.5
    assert len(pd.read_csv(root / "real/rois.tsv", sep="\t").query("unit == 'sub-2' and map == 'atlas-syn'")) == 4
    assert "regions: r" in (root / "real/metrics.md").read_text()


def test_without_a_dataset_or_a_pair_the_stage_says_so(tmp_path):
    with pytest.raises(DataError, match=r"real\.bids_dir is not set"):
        real_pairs.main(tmp_path / "results", write_config(tmp_path))
    raw = tmp_path / "raw"
    add_t1(raw, "sub-1")
    with pytest.raises(DataError, match="no participant with T1w and DWI"):
        real_pairs.main(tmp_path / "results", write_config(tmp_path, bids_dir=str(raw)))


def test_weights_of_another_target_are_refused_before_any_work(tmp_path):
    weights = write_line(tmp_path / "md", target="md")
    with pytest.raises(DataError, match="does not predict FA"):
        real_pairs.methods_of(Real(weights={"md": str(weights)}), tmp_path)


def test_real_pairs_are_found_with_their_second_series(shared_data):
    found = real_pairs.pairs_of(shared_data / "bids", Config.model_fields["dti"].default)
    series = {unit["unit"]: second and second["path"].rpartition("/")[2] for unit, second in found}
    assert series == {"sub-DEC": None, "sub-IUB": "sub-IUB_dir-PA_dwi.nii.gz", "sub-UIB": "sub-UIB_dir-PA_dwi.nii.gz"}


def test_sources_of_a_second_measurement_name_the_dataset_of_the_pairs(study):
    at = files_of("sub-1", study[0] / "real/second_measurement")
    sources = read_json(str(at("fa")).replace(".nii.gz", ".json"))["Sources"]
    assert sources[0].startswith("bids:results:sub-1/anat/") and sources[1].startswith("bids::sub-1/dwi/")
