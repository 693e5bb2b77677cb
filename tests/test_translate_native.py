"""A T1 of its own: any orientation, what is refused, a folder of them."""

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
from m2m.io.volume import Volume, load, resample, same_grid, save
from m2m.structural.anat import Anatomy
from m2m.structural.template import load_template
from m2m.translate.native import outputs_beside
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
    """Folder and map of the head as it is."""
    folder = tmp_path_factory.mktemp("upright") / "ras"
    return folder, translated(folder, head())


def test_map_deviation_picture_and_sidecar_are_written(upright):
    folder, found = upright
    inside = found.data > 0
    assert 1.0 < inside.sum() * 8e-6 < 2.0, "a brain's volume, in litres"
    assert np.corrcoef(found.data[inside], head().data[inside])[0, 1] > 0.9
    outputs = outputs_beside(folder / "fa.nii.gz")
    sd = load(outputs.sd)
    assert same_grid(sd, found) and np.allclose(sd.data[inside], 0.07)
    picture = Image.open(outputs.picture)
    assert min(picture.size) > 200 and len(picture.getcolors(256)) > 100
    sidecar = read_json(folder / "fa.json")
    assert sidecar["WeightsSHA256"] == read_json(folder / "model.json")["weights"]
    assert sidecar["Sources"] == [str(folder / "t1.nii.gz"), str(folder / "model.safetensors")]
    done = sidecar["Conformed"]
    assert done["BrainMask"] == "template and intensity" and done["GridSpacingMm"] == 3
    assert done["FluidOverWhite"] < done["GreyOverWhite"] < 0.95 and done["CoveredBrain"] == 1
    assert np.allclose(done["GridToMNI152"], np.eye(4), atol=6), "the head is the template's"


def test_other_axes_give_the_same_map(upright, tmp_path):
    found = translated(tmp_path / "lsa", reoriented(head(), "LSA"))
    assert nib.aff2axcodes(found.affine) == ("L", "S", "A")
    assert np.allclose(reoriented(found, "RAS").data, upright[1].data, atol=1e-4)


def test_an_oblique_grid_of_other_voxels_gives_the_same_map_where_both_are(upright, tmp_path):
    affine = np.eye(4)
    turned = Rotation.from_euler("xz", (8, 5), degrees=True).as_matrix()
    affine[:3, :3] = turned @ np.array([[0, 0, 2.5], [-0.8, 0, 0], [0, 1.6, 0]])
    shape = (285, 116, 76)
    affine[:3, 3] = (0, -14, 2) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    found = translated(tmp_path / "oblique", head(affine, shape))
    back = resample(found, RAS, SHAPE).data
    both = ndimage.binary_erosion((back > 0) & (upright[1].data > 0))
    assert both.sum() > 0.8 * (upright[1].data > 0).sum()
    assert np.corrcoef(back[both], upright[1].data[both])[0, 1] > 0.9
    assert np.abs(back - upright[1].data)[both].mean() < 0.03


def measured(image, affine=RAS, shape=SHAPE):
    """Contrast of an image in the template's place."""
    maps = (resample(load_template(name, 2.0), RAS, SHAPE).data for name in ("brain", "wm"))
    brain, white = (Volume(data > 0.5, RAS) for data in maps)
    on_grid = Volume(np.where(brain.data, image, 0), RAS)
    there = Volume(np.zeros(shape, np.float32), affine)
    return contrast(there, Anatomy(on_grid, brain, white, np.eye(4), 1.5, 0, 0, []))


def on_grid(name):
    return resample(load_template(name, 2.0), RAS, SHAPE).data


def test_a_t1_passes_and_what_is_none_is_refused():
    t1, white, grey = (on_grid(name) for name in ("t1", "wm", "gm"))
    require_t1(measured(1000 * t1), [])
    images = {"t2": 1.3 - t1, "fa": 0.5 * white + 0.12 * grey + 0.05, "b0": 1.2 - 0.6 * t1,
              "infant": np.where(white > 0.5, 0.9 * np.median(t1[grey > 0.8]), t1)}  # fmt: skip
    for name, image in images.items():
        with pytest.raises(DataError, match="no T1 by its contrast"):
            require_t1(measured(image), [])
            pytest.fail(name)


def test_ventricles_that_are_smaller_than_the_template_s_are_no_reason_to_refuse():
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
    for person, t1 in t1s.items():
        save(bids / person / "anat" / f"{person}_T1w.nii.gz", t1)
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


def test_a_wrong_call_has_a_code_of_its_own(tmp_path):
    weights = write_line(tmp_path)
    for source, out, further in ((tmp_path, "o", ["--brain", "b.nii"]), ("t1.nii", "fa.mgz", [])):
        result = run("translate", source, "--weights", weights, "--out", tmp_path / out, *further)
        assert result.exit_code == 2, result.output


def test_a_folder_without_t1s_is_refused(tmp_path):
    (tmp_path / "sub-01").mkdir()
    result = run("translate", tmp_path, "--weights", write_line(tmp_path), "--out", tmp_path / "o")
    assert result.exit_code == 1 and "has no T1w image" in result.output
