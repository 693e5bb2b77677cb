"""Axes of gradient tables, by their format and the program that wrote them, on an imitation of QSIPrep's output."""

import json

import nibabel as nib
import numpy as np
import pytest

from m2m.diffusion import dti, dwi
from m2m.diffusion.gradient_tables import fsl_axes, program_of, read_gradients
from m2m.diffusion.preprocess import fsl_files
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.options import Dti

SHAPE, MM = (30, 34, 26), 4.8
QSIPREP = {"GeneratedBy": [{"Name": "QSIPrep", "Version": "1.0.0"}]}
OLD_QSIPREP = {"PipelineDescription": {"Name": "qsiprep", "Version": "0.8"}}
OTHERS = {"GeneratedBy": [{"Name": "TractoFlow"}]}
MAPS = ("fa", "md", "ad", "rd", "v1", "tensor", "mask", "b0")


def directions(n):
    """Points of a spiral over half a sphere."""
    k = np.arange(n) + 0.5
    z, turn = k / n, k * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)


class Head:
    """A head on an LPS+ grid, as QSIPrep resamples to, with oblique fibres in thin tubes."""

    def __init__(self, noise=30.0):
        affine = np.diag([-MM, -MM, MM, 1.0])
        affine[:3, 3] = MM * (np.array(SHAPE) - 1) / 2 * [1, 1, -1]
        points = np.moveaxis(np.indices(SHAPE), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
        radius = np.linalg.norm(points / [60, 70, 54], axis=-1)
        x, y, z = np.moveaxis(np.floor(points / MM).astype(int), -1, 0)
        part = np.digitize(points[..., 0], [-20, 20])
        tubes = [
            ((x - y) % 3 == 0) & (z % 2 == 0),
            ((y + z) % 3 == 0) & (x % 2 == 0),
            ((x - z) % 3 == 0) & (y % 2 == 0),
        ]
        along = np.array([[1, 1, 0], [0, 1, -1], [1, 0, 1]]) / np.sqrt(2)
        self.affine, self.white = affine, np.choose(part, tubes) & (radius < 0.9)
        self.fibres = along[part]  # world axes
        self.vectors = np.vstack([np.zeros((2, 3)), directions(24)])  # world axes
        self.bvals = np.r_[0, 0, np.full(24, 1000)]
        rate = np.where(self.white[..., None], 0.25e-3 + 1.35e-3 * (self.fibres @ self.vectors.T) ** 2, 0.9e-3)
        signal = np.where(radius[..., None] < 1, 1000 * np.exp(-self.bvals * rate), 0)
        rng = np.random.default_rng(0)
        self.signal = np.hypot(signal + rng.normal(0, noise, signal.shape), rng.normal(0, noise, signal.shape))

    def write(self, root, about, table):
        """Write the series with one gradient table: along the image, in FSL's axes, or in world axes."""
        folder = root / "sub-01" / "dwi"
        folder.mkdir(parents=True)
        (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"} | about))
        stem = folder / "sub-01_space-ACPC_desc-preproc_dwi"
        image = nib.Nifti1Image(self.signal.astype(np.float32), self.affine)
        image.set_sform(self.affine, 1)
        image.set_qform(self.affine, 1)
        nib.save(image, f"{stem}.nii.gz")
        np.savetxt(f"{stem}.bval", self.bvals[None], fmt="%g")
        np.savetxt(f"{stem}.bvec", (self.vectors * {"image": [-1, -1, 1], "fsl": [1, -1, 1], "world": 0}[table]).T)
        np.savetxt(f"{stem}.b", np.c_[self.vectors, self.bvals], header="command_history: x")
        return [f"{stem}{suffix}" for suffix in (".nii.gz", ".bval", ".b" if table == "world" else ".bvec")]


@pytest.fixture(scope="module")
def head():
    return Head()


def fitted(paths, out):
    """Fit the tensor: its status, and V1."""
    out.mkdir()
    maps = {name: out / f"{name}.nii.gz" for name in MAPS}
    dti.fit_unit("sub-01", *paths, **maps, status=out / "status.json", section=Dti())
    return read_json(out / "status.json"), maps["v1"]


@pytest.mark.parametrize(
    ("about", "table", "axes"),
    [
        (QSIPREP, "world", "world, of MRtrix3's table"),
        (QSIPREP, "image", "the image's, by coherence of fibres"),
        (QSIPREP, "fsl", "FSL's, by coherence of fibres"),
        (OLD_QSIPREP, "image", "the image's, by coherence of fibres"),
        (OTHERS, "fsl", "FSL's"),
        ({}, "fsl", "FSL's"),
    ],
)
def test_v1_of_qsipreps_series_follows_the_known_fibres_in_each_convention(head, tmp_path, about, table, axes):
    status, v1 = fitted(head.write(tmp_path / "ds", about, table), tmp_path / "out")
    assert (status["status"], status["gradient_axes"]) == ("ok", axes)
    cosine = np.abs((nib.load(v1).get_fdata() * head.fibres).sum(-1))[head.white]
    assert np.degrees(np.arccos(np.median(cosine))) < 3


def test_the_images_axes_of_another_program_are_a_finding(head, tmp_path):
    status, _ = fitted(head.write(tmp_path / "ds", OTHERS, "image"), tmp_path / "out")
    assert status["status"] == "failed" and "directions do not fit the image" in status["finding"]["problem"]


def test_where_noise_hides_the_fibres_qsipreps_own_convention_counts(tmp_path):
    paths = Head(noise=2000.0).write(tmp_path / "ds", QSIPREP, "image")
    series = dwi.load(*paths)
    assert series.axes == "the image's, as QSIPrep's; coherence of fibres is not clear"
    np.testing.assert_allclose(series.bvecs[2:], directions(24), atol=1e-6)


def test_programs_get_fsls_axes_and_b0_as_0(head, tmp_path):
    paths = head.write(tmp_path / "ds", {}, "fsl")
    series = dwi.load(*paths)
    assert fsl_files(series, paths[1], paths[2], tmp_path) == (paths[2], paths[1])
    np.savetxt(paths[1], np.where(head.bvals, 1000, 65)[None], fmt="%g")
    world = [paths[0], paths[1], paths[2].replace(".bvec", ".b")]
    bvec, bval = fsl_files(dwi.load(*world, b0_threshold=100), *world[1:], tmp_path)
    np.testing.assert_allclose(np.loadtxt(bvec).T @ fsl_axes(head.affine).T, head.vectors, atol=1e-6)
    np.testing.assert_array_equal(np.loadtxt(bval), head.bvals)


def test_a_program_is_named_by_the_nearest_description(tmp_path):
    (tmp_path / "dataset_description.json").write_text(json.dumps(QSIPREP))
    inner = tmp_path / "inner"
    inner.mkdir()
    assert program_of(inner / "x.bvec") == " qsiprep"
    for text in ("[]", "no JSON", '{"GeneratedBy": "QSIPrep"}', '{"GeneratedBy": [3]}'):
        (inner / "dataset_description.json").write_text(text)
        assert "qsiprep" not in program_of(inner / "x.bvec")


def test_a_table_of_mrtrix3_without_four_columns_is_named(tmp_path):
    np.savetxt(tmp_path / "x.b", np.zeros((7, 3)))
    with pytest.raises(DataError, match="four numbers in a row"):
        read_gradients(tmp_path / "x.b", tmp_path / "x.b")
