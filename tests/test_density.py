import zipfile

import nibabel as nib
import numpy as np
import pytest
from dipy.io.streamline import load_trx
from nibabel.streamlines import ArraySequence
from trx import trx_file_memmap

from m2m.diffusion import density
from m2m.diffusion.trx import write_trx
from m2m.io.errors import DataError
from m2m.io.programs import ProgramError

SHAPE = (6, 7, 8)
EYE = np.eye(4)


def count(*points, affine=EYE, shape=SHAPE):
    return density.count_map(ArraySequence(np.array(p, float) for p in points), affine, shape)


def test_a_diagonal_streamline_marks_the_diagonal_once():
    found = count([[0, 0, 0], [5, 5, 5]])
    expected = np.zeros(SHAPE, int)
    expected[range(6), range(6), range(6)] = 1
    np.testing.assert_array_equal(found, expected)


def test_no_voxel_between_two_far_points_is_left_out():
    found = count([[0, 2, 3], [5, 2, 3]])
    assert found.sum() == 6
    np.testing.assert_array_equal(found[:, 2, 3], 1)


def test_a_streamline_that_returns_counts_once_and_two_count_twice():
    there_and_back = [[0, 1, 1], [5, 1, 1], [0, 1, 1]]
    np.testing.assert_array_equal(count(there_and_back)[:, 1, 1], 1)
    np.testing.assert_array_equal(count(there_and_back, there_and_back)[:, 1, 1], 2)


def test_points_outside_the_grid_are_ignored():
    found = count([[-4, 2, 3], [20, 2, 3]], [[0, -9, 0], [0, -5, 0]])
    np.testing.assert_array_equal(found[:, 2, 3], 1)
    assert found.sum() == 6


def test_voxels_are_found_in_a_rotated_flipped_grid_of_unequal_voxel_sizes():
    affine = np.array([[0, 2.0, 0, -9], [-3.0, 0, 0, 20], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    centres = nib.affines.apply_affine(affine, [[1, 0, 5], [1, 6, 5]])
    found = count(centres, affine=affine)
    np.testing.assert_array_equal(found[1, :, 5], 1)
    assert found.sum() == 7


def test_single_points_and_no_streamline_are_no_error():
    assert count([[1, 1, 1]])[1, 1, 1] == 1
    assert density.count_map(ArraySequence(), EYE, SHAPE).sum() == 0


@pytest.mark.parametrize(("tracks", "equal", "correlation"), [("tensordet_257", 1.0, 1.0), ("ifod2_500", 0.9, 0.999)])
@pytest.mark.parametrize("spacing_mm", [2.0, 3.0])
def test_counts_agree_with_tckmap_on_real_streamlines(shared_data, needs_tool, tracks, equal, correlation, spacing_mm):
    # iFOD2's points are 1.25 mm apart: tckmap rounds the corners between them, we do not.
    needs_tool("tckmap")
    streamlines = density.load_tractogram(shared_data / f"oracle_mrtrix/tracks_{tracks}.tck")
    low, high = streamlines.get_data().min(axis=0), streamlines.get_data().max(axis=0)
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = high[0] + 0.3, low[1], low[2]
    shape = tuple(np.ceil((high - low) / spacing_mm).astype(int) + 2)
    ours = density.count_map(streamlines, affine, shape)
    theirs = density.count_by_tckmap(streamlines, affine, shape)
    crossed = (ours > 0) | (theirs > 0)
    assert crossed.sum() > 50
    assert (ours == theirs)[crossed].mean() >= equal
    assert np.corrcoef(ours[crossed], theirs[crossed])[0, 1] >= correlation - 1e-9
    assert abs(int(ours.sum()) - int(theirs.sum())) <= 0.005 * theirs.sum()


def test_a_missing_tckmap_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramError, match="tckmap is not on PATH"):
        density.count_by_tckmap(ArraySequence([np.zeros((2, 3))]), EYE, SHAPE)


def test_density_does_not_depend_on_seeds_or_voxels():
    # Straight streamlines through all of a 12 mm cube, one from each seed: one that starts in a
    # 12 mm column of voxels crosses each of its voxels, so density is column / voxel.
    for spacing, per_mm2 in ((1.0, 1), (1.0, 3), (2.0, 1), (4.0, 2)):
        n = int(12 / spacing)
        xy = (np.stack(np.meshgrid(*[np.arange(12 * per_mm2)] * 2), -1).reshape(-1, 2) + 0.5) / (per_mm2)
        lines = ArraySequence(np.array([[x, y, 0.5], [x, y, 11.5]]) for x, y in xy)
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = spacing / 2
        counted = density.count_map(lines, affine, (n, n, n))
        found = density.normalised(counted, len(lines), 12.0**3, affine)
        np.testing.assert_allclose(found, 12 / spacing, rtol=1e-6)
        assert found.dtype == np.float32


@pytest.mark.parametrize(("n_seeds", "seeded_mm3"), [(0, 10.0), (5, 0.0)])
def test_no_seeds_give_no_density(n_seeds, seeded_mm3):
    with pytest.raises(ValueError, match="give no density"):
        density.normalised(np.ones((2, 2, 2)), n_seeds, seeded_mm3, EYE)


POINTS = [np.random.default_rng(i).normal(size=(n, 3)) * 40 for i, n in enumerate((2, 9, 5))]


@pytest.mark.parametrize("name", ["a.tck", "a.trx"])
def test_saved_streamlines_are_loaded_unchanged(tmp_path, name):
    density.save_tractogram(tmp_path / name, ArraySequence(POINTS))
    for asked in ("a.tck", "a.trx"):  # in whichever format they were written
        found = density.load_tractogram(tmp_path / asked)
        assert len(found) == 3
        for ours, theirs in zip(found, POINTS, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_dipy_and_trx_python_read_the_streamlines_groups_and_image_of_a_trx_file(tmp_path):
    path, affine = tmp_path / "a.trx", np.diag([-2.0, 3.0, 2.5, 1.0])
    write_trx(path, ArraySequence(POINTS), affine, SHAPE, {"CST_left": [0, 2]})
    theirs = load_trx(str(path), "same", bbox_valid_check=False)
    np.testing.assert_array_equal(theirs.affine, affine)
    assert tuple(theirs.dimensions) == SHAPE and [len(line) for line in theirs.streamlines] == [2, 9, 5]
    np.testing.assert_array_equal(theirs.streamlines.get_data(), np.concatenate(POINTS).astype(np.float32))
    np.testing.assert_array_equal(trx_file_memmap.load(str(path)).groups["CST_left"], [0, 2])


def test_a_trx_file_of_half_precision_by_trx_python_is_read(tmp_path):
    trx = trx_file_memmap.TrxFile(nb_vertices=16, nb_streamlines=3)
    trx.streamlines._data[:] = np.concatenate(POINTS)
    trx.streamlines._offsets[:], trx.streamlines._lengths[:] = [0, 2, 11], [2, 9, 5]
    trx_file_memmap.save(trx, str(tmp_path / "a.trx"), zipfile.ZIP_DEFLATED)
    found = density.load_tractogram(tmp_path / "a.trx")
    assert [len(line) for line in found] == [2, 9, 5]
    np.testing.assert_allclose(found.get_data(), np.concatenate(POINTS), atol=0.06)


def test_the_same_streamlines_give_the_same_trx_file(tmp_path):
    for name in ("a.trx", "b.trx"):
        write_trx(tmp_path / name, ArraySequence(POINTS), EYE, SHAPE, {"all": [0, 1, 2]})
    assert (tmp_path / "a.trx").read_bytes() == (tmp_path / "b.trx").read_bytes()
    assert all(file.external_attr >> 16 == 0o644 for file in zipfile.ZipFile(tmp_path / "a.trx").infolist())


@pytest.mark.parametrize("name", ["a.b", "../a"])
def test_a_group_whose_name_would_be_another_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no dot and no slash"):
        write_trx(tmp_path / "a.trx", ArraySequence(POINTS), EYE, SHAPE, {name: [0]})


def test_a_trx_file_whose_header_and_arrays_disagree_is_named(tmp_path):
    path = tmp_path / "a.trx"
    density.save_tractogram(path, ArraySequence(POINTS))
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["header.json"] = content["header.json"].replace(b'"NB_STREAMLINES": 3', b'"NB_STREAMLINES": 4')
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match=r"\[4, 16\] streamlines and points, its arrays \[3, 16\]"):
        density.load_tractogram(path)


def test_mrtrix3_reads_the_same_world_coordinates(tmp_path, needs_tool):
    needs_tool("tckmap")
    affine = np.diag([-2.0, 3.0, 2.5, 1.0])
    affine[:3, 3] = 20, -30, 11
    inside = nib.affines.apply_affine(affine, [[2, 1, 3], [2, 5, 3]])
    found = density.count_by_tckmap(ArraySequence([inside]), affine, SHAPE)
    np.testing.assert_array_equal(found[2, 1:6, 3], 1)
    assert found.sum() == 5


def broken(path, kind):
    streamlines = ArraySequence([np.ones((4, 3)), np.zeros((3, 3))])
    if kind == "missing":
        return
    if kind == "nan":
        streamlines[0][1, 0] = np.nan
    if kind == "without streamlines":
        streamlines = ArraySequence()
    density.save_tractogram(path, streamlines)
    if kind == "zero bytes":
        path.write_bytes(b"")
    if kind == "text":
        path.write_text("hello")
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("kind", ["missing", "zero bytes", "text", "cut off", "nan", "without streamlines"])
@pytest.mark.parametrize("name", ["a.tck", "a.trx"])
def test_a_tractogram_that_cannot_be_used_is_named(tmp_path, kind, name):
    path = tmp_path / name
    broken(path, kind)
    with pytest.raises(DataError) as caught:
        density.load_tractogram(path)
    assert caught.value.file == str(path)
    assert caught.value.remedy


def test_a_transform_and_its_inverse_change_nothing():
    transform = np.eye(4)
    transform[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    transform[:3, 3] = 5, 6, 7
    line = ArraySequence([np.array([[1.0, 0, 0], [2.0, 0, 0]])])
    transformed = density.move(line, transform)
    np.testing.assert_allclose(transformed[0], [[5, 7, 7], [5, 8, 7]])
    np.testing.assert_allclose(density.move(transformed, np.linalg.inv(transform))[0], line[0])
