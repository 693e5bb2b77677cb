"""Translation of any T1: any orientation, refused images, a folder of T1s."""

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from line_model import run, write_line
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.io.volume import Volume, load, resample, resample_inside, same_grid, save
from m2m.structural.anat import Anatomy, _ends
from m2m.structural.template import load_template
from m2m.translate import folder, native
from m2m.translate.native import default_outputs
from m2m.translate.predict import Translated, unscaled
from m2m.translate.t1_checks import contrast, require_t1

GRID = {"shape": [64, 80, 64], "t1_range_percent": [1, 99]}
RAS = np.array([[2.0, 0, 0, -88], [0, 2, 0, -122], [0, 0, 2, -88], [0, 0, 0, 1]])
SHAPE = (90, 110, 90)


def head(affine=RAS, shape=SHAPE):
    """The template's brain in a skull and a scalp, sampled on any grid."""
    brain = load_template("brain", 2.0)
    outside_mm = ndimage.distance_transform_edt(brain.data < 0.5) * 2
    scalp = (outside_mm > 8) & (outside_mm < 15)
    data = 1000 * load_template("t1", 2.0).data + 900 * scalp
    return resample(Volume(data.astype(np.float32), brain.affine), affine, shape)


def reoriented(volume, codes):
    """The same voxels, stored along other axes."""
    to = nib.orientations.axcodes2ornt(codes)
    order = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), to)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(order, volume.shape)
    return Volume(nib.apply_orientation(volume.data, order), affine)


def translated(folder, t1, *further):
    """Write a T1, translate it, and load the map."""
    folder.mkdir()
    save(folder / "t1.nii.gz", t1)
    weights = write_line(folder, 0.05, 0.4, **GRID)
    out = folder / "fa.nii.gz"
    result = run("translate", folder / "t1.nii.gz", "--weights", weights, "--out", out, *further)
    assert result.exit_code == 0, result.output
    found = load(out)
    assert same_grid(found, t1)
    return found


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    """Folder and map of the head in its own orientation."""
    folder = tmp_path_factory.mktemp("upright") / "ras"
    return folder, translated(folder, head())


def test_map_deviation_figure_and_sidecar_are_written(upright):
    folder, found = upright
    inside = found.data > 0
    assert 1.0 < inside.sum() * 8e-6 < 2.0, "a brain's volume, in litres"
    assert np.corrcoef(found.data[inside], head().data[inside])[0, 1] > 0.9
    outputs = default_outputs(folder / "fa.nii.gz")
    sd = load(outputs.sd)
    assert same_grid(sd, found) and np.allclose(sd.data[inside], 0.07)
    figure = Image.open(outputs.figure)
    assert min(figure.size) > 200 and len(figure.getcolors(256)) > 100
    sidecar = read_json(folder / "fa.json")
    assert sidecar["WeightsSHA256"] == read_json(folder / "model.json")["weights"]
    assert sidecar["Sources"] == ["t1.nii.gz", "model.safetensors"]
    details = sidecar["Conformed"]
    assert details["BrainMask"] == "template and intensity" and details["GridSpacingMm"] == 3
    assert details["FluidOverWhite"] < details["GreyOverWhite"] < 0.95 and details["CoveredBrain"] == 1
    assert np.allclose(details["GridToMNI152"], np.eye(4), atol=6), "the head is the template's"


def test_other_axes_give_the_same_map(upright, tmp_path):
    found = translated(tmp_path / "lsa", reoriented(head(), "LSA"))
    assert nib.aff2axcodes(found.affine) == ("L", "S", "A")
    assert np.allclose(reoriented(found, "RAS").data, upright[1].data, atol=1e-4)


def test_an_oblique_grid_of_other_voxels_gives_the_same_map_where_both_are(upright, tmp_path):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xz", (8, 5), degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.array([[0, 0, 2.5], [-0.8, 0, 0], [0, 1.6, 0]])
    shape = (285, 116, 76)
    affine[:3, 3] = (0, -14, 2) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    found = translated(tmp_path / "oblique", head(affine, shape))
    back = resample(found, RAS, SHAPE).data
    both = ndimage.binary_erosion((back > 0) & (upright[1].data > 0))
    assert both.sum() > 0.8 * (upright[1].data > 0).sum()
    assert np.corrcoef(back[both], upright[1].data[both])[0, 1] > 0.9
    assert np.abs(back - upright[1].data)[both].mean() < 0.03


@pytest.mark.parametrize(("target", "channels"), [("fa", ()), ("dti", (6,))])
def test_slab_by_slab_a_map_is_that_of_the_whole_t1_in_less_memory(monkeypatch, target, channels):
    rng, grid = np.random.default_rng(3), np.diag([3.0, 3, 3, 1])
    brain = Volume(ndimage.binary_dilation(rng.random((20, 24, 22)) > 0.999, iterations=4), grid)
    image, sd = (Volume(np.float32(rng.random((*brain.shape, *channels))), grid) for _ in range(2))
    fine = np.eye(4)
    fine[:3, :3] = Rotation.from_euler("zx", (5, 8), degrees=True).as_matrix() * (0.5, 0.5, 1)
    fine[:3, 3] = (4, -6, 0)
    shape = (120, 140, 70)
    whole, inside = resample_inside(image, brain, fine, shape)
    expected = unscaled(whole, inside.data, {"target": target}), resample_inside(sd, brain, fine, shape)[0]
    monkeypatch.setattr(native, "SLAB_VOXELS", 20_000)
    tracemalloc.start()
    found = native.to_native_voxels(Translated(image, sd), brain, fine, shape, {"target": target})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for one, other in zip(found, expected, strict=True):
        assert same_grid(one, other) and np.abs(other.data).max() > 0
        np.testing.assert_allclose(one.data, other.data, atol=1e-6)
    assert most < 1.6 * sum(one.data.nbytes for one in found)


def test_the_ends_of_a_mask_have_its_extent_along_any_axes():
    mask = np.random.default_rng(1).random((15, 17, 40)) > 0.2
    axes = Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix()
    few, all_of_it = (np.argwhere(m) @ axes for m in (_ends(mask), mask))
    assert len(few) < 0.7 * len(all_of_it)
    np.testing.assert_allclose([few.min(0), few.max(0)], [all_of_it.min(0), all_of_it.max(0)])


def measured(image, affine=RAS, shape=SHAPE):
    """Contrast of an image registered to the template."""
    maps = (resample(load_template(name, 2.0), RAS, SHAPE).data for name in ("brain", "wm"))
    brain, white = (Volume(data > 0.5, RAS) for data in maps)
    on_grid = Volume(np.where(brain.data, image, 0), RAS)
    given = Volume(np.zeros(shape, np.float32), affine)
    return contrast(given, Anatomy(on_grid, brain, white, np.eye(4), 1.5, 0, 0, []))


def on_grid(name):
    return resample(load_template(name, 2.0), RAS, SHAPE).data


def test_a_t1_passes_and_other_images_are_refused():
    t1, white, grey = (on_grid(name) for name in ("t1", "wm", "gm"))
    require_t1(measured(1000 * t1), [])
    images = {
        "t2": 1.3 - t1,
        "fa": 0.5 * white + 0.12 * grey + 0.05,
        "b0": 1.2 - 0.6 * t1,
        "infant": np.where(white > 0.5, 0.9 * np.median(t1[grey > 0.8]), t1),
    }
    for name, image in images.items():
        with pytest.raises(DataError, match="not a T1 by its contrast"):
            require_t1(measured(image), [])
            pytest.fail(name)


def test_ventricles_smaller_than_the_template_s_are_accepted():
    t1, tissue = on_grid("t1"), on_grid("wm") + on_grid("gm")
    wide = (tissue < 0.3) & (on_grid("brain") > 0.5)
    grey = np.median(t1[on_grid("gm") > 0.8])
    small = np.where(wide & (np.random.default_rng(1).random(SHAPE) > 0.35), 0.98 * grey, t1)
    require_t1(measured(small), [])


def test_a_part_of_a_brain_is_refused():
    cut = RAS @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 30], [0, 0, 0, 1]])
    numbers = measured(on_grid("t1"), cut, (90, 110, 60))
    assert 0.5 < numbers["CoveredBrain"] < 0.9
    with pytest.raises(DataError, match="field of view is too small"):
        require_t1(numbers, [])


def test_a_series_is_refused_with_its_name(tmp_path):
    path = tmp_path / "t1.nii.gz"
    save(path, Volume(np.random.default_rng(0).random((8, 9, 10, 3)), RAS))
    out = tmp_path / "fa.nii.gz"
    result = run("translate", path, "--weights", write_line(tmp_path, **GRID), "--out", out)
    assert result.exit_code == 1 and not out.exists()
    assert "image is not 3D (found shape (8, 9, 10, 3))" in result.output
    assert str(path) in result.output


def test_a_real_fa_map_is_refused(shared_data, tmp_path):
    path, out = shared_data / "fa" / "sub-NIV_FA.nii.gz", tmp_path / "fa.nii.gz"
    result = run("translate", path, "--weights", write_line(tmp_path, **GRID), "--out", out)
    assert result.exit_code == 1 and not out.exists()
    assert result.output.startswith("m2m translate: ") and str(path) in result.output


def test_weights_without_their_record_are_refused(tmp_path):
    weights = write_line(tmp_path)
    (tmp_path / "model.json").unlink()
    result = run("translate", "t1.nii.gz", "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 1 and "record of the weights is missing" in result.output


def test_one_bad_t1_of_a_folder_does_not_stop_the_others(tmp_path):
    bids, out = tmp_path / "bids", tmp_path / "out"
    t1s = {"sub-01": head(), "sub-02": Volume(np.ones(SHAPE, np.float32), RAS)}
    for subject, t1 in t1s.items():
        save(bids / subject / "anat" / f"{subject}_T1w.nii.gz", t1)
    (bids / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.10.0"}')
    weights = write_line(tmp_path, 0.05, 0.4, **GRID)
    result = run("translate", bids, "--weights", weights, "--out", out)
    assert result.exit_code == 3, result.output
    assert "1 of 2 T1s translated, 1 not" in result.output
    measure = "model-tensor_param-fa"
    found = load(out / "sub-01" / "dwi" / f"sub-01_space-T1w_desc-synth_{measure}_dwimap.nii.gz")
    assert same_grid(found, t1s["sub-01"]) and found.data.max() > 0.3
    assert (out / "sub-01" / "figures" / "sub-01_desc-quality_T1w.png").is_file()
    assert not list(out.glob("sub-02/**/*.nii.gz"))
    status = read_json(out / "sub-02" / "dwi" / f"sub-02_desc-synth_{measure}_status.json")
    assert status["status"] == "failed"
    (finding,) = read_table(out / "cohort" / "cohort_status.tsv")
    assert finding["unit"] == "sub-02" and "all one value" in finding["problem"]
    assert read_json(out / "dataset_description.json")["DatasetType"] == "derivative"


def test_no_name_and_no_link_leads_out_of_the_folder_of_results(tmp_path, monkeypatch):
    raw, out, outside = tmp_path / "bids", tmp_path / "a" / "b" / "out", tmp_path / "outside"
    outside.mkdir()
    # A participant by whose name a folder is built far above that of the results.
    evil = "sub-x_.._.._.._evil"
    for subject in ("sub-01", "sub-02", evil):
        name = f"{subject.split('_')[0]}_T1w.nii.gz"
        save(raw / subject / "anat" / name, Volume(np.eye(30)[..., None] + np.ones(40), RAS))
    (raw / "dataset_description.json").write_text('{"Name": "three", "BIDSVersion": "1.10.0"}')
    (out / "sub-02").mkdir(parents=True)
    (out / "sub-02" / "dwi").symlink_to(outside)
    (tmp_path / "a" / "evil").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = []
    monkeypatch.setattr(folder, "translate_t1", lambda t1, *_, **__: done.append(t1.name) or {})
    weights = write_line(tmp_path, **GRID)
    result = run("translate", raw, "--weights", weights, "--out", out)
    assert result.exit_code == 3 and done == ["sub-01_T1w.nii.gz"], result.output
    written = set(tmp_path.rglob("*")) - set(before) - set(tmp_path.iterdir())
    assert written and all(path.resolve().is_relative_to(out) for path in written)
    assert not list(outside.iterdir())
    found = {row["unit"]: row["problem"] for row in read_table(out / "cohort" / "cohort_status.tsv")}
    assert "letters and digits" in found[evil] and "outside of" in found["sub-02"]
    description = read_json(out / "dataset_description.json")
    assert description["DatasetLinks"] == {"raw": "../../../bids"}


def test_a_wrong_call_has_a_code_of_its_own(tmp_path):
    weights = write_line(tmp_path)
    (tmp_path / "ds").mkdir()
    for source, out, further in ((tmp_path / "ds", "o", ["--brain", "b.nii"]), ("t1.nii", "fa.mgz", [])):
        result = run("translate", source, "--weights", weights, "--out", tmp_path / out, *further)
        assert result.exit_code == 2, result.output


def test_a_folder_without_t1s_is_refused(tmp_path):
    (tmp_path / "ds" / "sub-01").mkdir(parents=True)
    result = run("translate", tmp_path / "ds", "--weights", write_line(tmp_path), "--out", tmp_path / "o")
    assert result.exit_code == 1 and "has no T1w image" in result.output
