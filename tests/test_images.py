"""Formats of images, and files that would make a reader hang or fill the memory."""

import gzip
import os
import socket
from math import prod

import nibabel as nib
import numpy as np
import pytest
from cohort_tree import AFFINE

from m2m.cohort.checks import check_scan
from m2m.io import images
from m2m.io.errors import DataError, StorageError
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.io.unit_status import recorded
from m2m.io.volume import load

DATA = np.random.default_rng(0).integers(1, 1000, (4, 5, 6)).astype(np.int16)


def big_endian(path):
    nib.save(nib.Nifti1Image(DATA, AFFINE, nib.Nifti1Header(endianness=">")), path)


def written(kind, data=DATA):
    return lambda path: nib.save(kind(data, AFFINE), path)


READ = {
    "T1w.nii": written(nib.Nifti1Image),
    "T1w.nii.gz": written(nib.Nifti1Image),
    "T1w.NII.GZ": written(nib.Nifti1Image),
    "nifti2.nii.gz": written(nib.Nifti2Image),
    "big_endian.nii": big_endian,
    "pair.img": written(nib.Nifti1Pair),
    "pair.hdr": written(nib.Nifti1Pair),
    "pair2.img": written(nib.Nifti2Pair),
    "T1.mgh": written(nib.MGHImage),
    "T1.mgz": written(nib.MGHImage),
    "four_axes.nii.gz": written(nib.Nifti1Image, DATA[..., None]),
    "five_axes.nii.gz": written(nib.Nifti1Image, DATA[..., None, None]),
}


@pytest.mark.parametrize("name", READ)
def test_every_format_gives_the_same_volume(tmp_path, name):
    READ[name](tmp_path / name)
    assert check_scan("T1w", tmp_path / name).problems == ()
    found = load(tmp_path / name)
    np.testing.assert_array_equal(found.data, DATA)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)


def test_a_series_of_one_more_axis_is_a_series(tmp_path):
    data = np.stack([DATA, DATA + 1], axis=-1)[..., None]
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "dwi.nii")
    np.testing.assert_array_equal(load(tmp_path / "dwi.nii").data, data[..., 0])


@pytest.mark.parametrize(
    "name, title",
    {
        "a.dcm": "DICOM",
        "a.mif": "MRtrix",
        "a.mnc": "MINC",
        "a.BRIK.gz": "AFNI",
        "a.nii.bz2": "bzip2",
        "a.gii": "GIFTI",
        "a": "no format that m2m reads",
    }.items(),
)
def test_other_formats_are_refused_by_name(tmp_path, name, title):
    (tmp_path / name).write_bytes(b"?" * 400)
    (problem,) = check_scan("T1w", tmp_path / name).problems
    assert title in problem.problem and "NIfTI" in problem.remedy


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm2AnalyzeImage])
def test_analyze_is_refused_since_it_does_not_state_left_and_right(tmp_path, kind):
    written(kind)(tmp_path / "a.img")
    for read in (load, lambda path: [_raise(p) for p in check_scan("T1w", path).problems]):
        with pytest.raises(DataError, match="Analyze, which does not state left and right"):
            read(tmp_path / "a.img")


def _raise(problem):
    raise problem


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


SPECIAL = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a socket": bound_socket,
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.img", "a.json", "a.tsv"])
def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    SPECIAL[kind](tmp_path / name if kind != "a socket" else type(tmp_path)(name))
    (tmp_path / "a.hdr").write_bytes(bytes(400))
    read = {".json": read_json, ".tsv": read_table}.get((tmp_path / name).suffix, load)
    error = ValueError if read is read_json else DataError
    with pytest.raises(error, match=f"not a regular file, but {kind}"):
        read(tmp_path / name)


def huge(path, side):
    """A header of `side` cubed voxels of two bytes, over a file as large, of holes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((side,) * 3)
    header.set_sform(AFFINE, 1)
    header["vox_offset"] = 352
    path.write_bytes(header.binaryblock + bytes(4))
    os.truncate(path, 352 + 2 * side**3)


def test_an_honest_header_beyond_the_memory_is_a_finding_in_every_reader(tmp_path, monkeypatch):
    huge(tmp_path / "a.nii", 20000)  # 16 TB on a disk of holes
    (problem,) = check_scan("T1w", tmp_path / "a.nii").problems
    assert problem.problem == "image is too large: cohort.max_volume_gb is 4 GB"
    monkeypatch.setattr(images, "memory_bytes", lambda: 64e9)
    with pytest.raises(DataError, match="larger than the memory") as caught:
        load(tmp_path / "a.nii")
    assert caught.value.value == "shape (20000, 20000, 20000): 3.2e+04 GB of 64 GB"


@pytest.mark.parametrize("place, value", [("vox_offset", 3e9), ("vox_offset", np.inf)])
def test_a_bomb_before_the_voxels_is_not_unpacked(tmp_path, monkeypatch, place, value):
    image = nib.Nifti1Image(DATA, AFFINE)
    content = bytearray(image.to_bytes())
    content[108:112] = np.float32(value).tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content) + bytes(10**7)))
    monkeypatch.setattr(nib, "load", lambda *_, **__: pytest.fail("opened"))
    (problem,) = check_scan("T1w", tmp_path / "a.nii.gz").problems
    assert "bytes before the voxels" in problem.problem


@pytest.mark.parametrize("shape", [(7, 5, 3), (7, 5, 3, 4), (40, 2, 2), (2, 2, 40, 3)])
@pytest.mark.parametrize("most", [1, 6, 20, 35, 10**6])
def test_slabs_are_of_bounded_size_and_hold_every_voxel_once(monkeypatch, shape, most):
    monkeypatch.setattr(images, "SLAB_VOXELS", most)
    times_read = np.zeros(shape, int)
    for part in images.slabs(shape):
        assert times_read[part].size <= max(most, shape[0])
        times_read[part] += 1
    assert (times_read == 1).all()


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "b.nii"])
def test_images_are_read_in_slabs_with_the_same_result(tmp_path, monkeypatch, name):
    data = np.stack([DATA, DATA[::-1], DATA + 7], axis=-1)
    data[:, :, 5, 1] = 1
    data[2] = np.where(data[2] < 500, 1, data[2])
    kind = nib.MGHImage if name.endswith("mgz") else nib.Nifti1Image
    nib.save(kind(data, AFFINE), tmp_path / name)
    problems = [str(p) for p in check_scan("dwi", tmp_path / name).problems]
    whole = load(tmp_path / name).data
    sizes = []
    read = images.ImageFile.read
    monkeypatch.setattr(images, "SLAB_VOXELS", 25)
    monkeypatch.setattr(images.ImageFile, "read", lambda *of: sizes.append((part := read(*of)).size) or part)
    np.testing.assert_array_equal(load(tmp_path / name).data, whole)
    assert [str(p) for p in check_scan("dwi", tmp_path / name).problems] == problems
    assert max(sizes) <= 25 and sum(sizes) >= prod(data.shape)


def test_an_image_without_real_numbers_is_refused_by_every_reader(tmp_path):
    nib.save(nib.Nifti1Image(DATA.astype(np.complex64), AFFINE), tmp_path / "a.nii")
    with pytest.raises(DataError, match="not real numbers"):
        load(tmp_path / "a.nii")


# -- whatever error a stage of one participant raises ------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyError("x"), AssertionError("x"), OSError(22, "x")])
def test_an_unforeseen_error_is_the_participants_finding_with_its_traceback(tmp_path, capsys, error):
    outputs = [tmp_path / "map.nii.gz"]
    with recorded("anat", "sub-01", tmp_path / "status.json", outputs):
        raise error
    status = read_json(tmp_path / "status.json")
    assert status["status"] == "failed" and outputs[0].read_bytes() == b""
    assert f"unexpected {type(error).__name__}" in status["finding"]["problem"]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        StorageError("disk"),
        OSError(28, "No space left"),
        ImportError("dipy"),
        RuntimeError("CUDA out of memory"),
        RuntimeError("CUDA error: device lost"),
        KeyboardInterrupt(),
    ],
)
def test_errors_of_the_machine_are_no_finding(tmp_path, error):
    with pytest.raises(type(error)), recorded("anat", "sub-01", tmp_path / "status.json", []):
        raise error
    assert not (tmp_path / "status.json").exists()
