"""A new preprocessing backend, tracker or mapper needs a function and a record; unknown names are refused."""

import shutil
import sys
import types

import nibabel as nib
import numpy as np
import pytest
from fibre_fields import OBLIQUE, SHAPE, gradients, straight
from nibabel.streamlines import ArraySequence
from pydantic import ValidationError

from m2m.diffusion import density, preprocess
from m2m.diffusion.tractography.tracking import track_unit
from m2m.diffusion.tractography.tracks import Anatomy, Tractogram
from m2m.io import volume
from m2m.io.files import read_json, write_json
from m2m.io.programs import Call
from m2m.options import Grid, Preprocess, Tractography
from m2m.options.backends import Backend
from m2m.options.imaging_options import MAPPERS
from m2m.options.preprocess_backends import PREPROCESS_BACKENDS
from m2m.options.trackers import TRACKERS, Tracker
from m2m.report.methods import program_versions

LINE = np.float32([[0, 0, 0], [10, 0, 0], [20, 0, 0]])


@pytest.fixture
def module(monkeypatch):
    """Function that adds a module with one function."""

    def add(name, **functions):
        made = types.ModuleType(name)
        vars(made).update(functions)
        monkeypatch.setitem(sys.modules, name, made)

    return add


def test_a_new_tracker_is_called_and_described_by_its_record(module, monkeypatch, tmp_path):
    def track(field, options, threads, anatomy):
        assert (options.backend, threads) == ("toy", 3) and anatomy.five_tissue == "5tt.nii.gz"
        calls = (Call(("toytrack", "x"), "1.2", "", 0),)
        return Tractogram(ArraySequence([LINE]), 5, 5 * field.voxel_mm3, 4, 0, "toy", "straight", calls=calls)

    module("toy_tracker", track=track)
    record = Tracker(
        "toy_tracker:track",
        lambda section: ("toytrack",),
        lambda section: "by Toy [@toy2026]",
        "Toy",
        ("toytrack",),
        "toy",
        minutes=5,
        outputs=lambda section: {"weights": "toy-weights"},
    )
    monkeypatch.setitem(TRACKERS, "toy", record)
    section = Tractography(backend="toy")
    assert section.commands == ("toytrack",)
    assert section.record.sentence(section) == "by Toy [@toy2026]"
    volume.save(tmp_path / "tensor.nii.gz", volume.Volume(straight().tensor, OBLIQUE))
    volume.save(tmp_path / "mask.nii.gz", volume.Volume(np.ones(SHAPE), OBLIQUE), dtype=np.uint8)
    status = tmp_path / "sub-1/dwi/sub-1_desc-tractography_status.json"
    track_unit(
        unit="sub-1",
        tensor=tmp_path / "tensor.nii.gz",
        mask=tmp_path / "mask.nii.gz",
        tractogram=tmp_path / "a.tck",
        figure_path=tmp_path / "a.png",
        status=status,
        section=section,
        anatomy=Anatomy(five_tissue="5tt.nii.gz"),
        threads=3,
    )
    (line,) = density.load_tractogram(tmp_path / "a.tck")
    np.testing.assert_array_equal(line, LINE)
    found = read_json(status)
    assert (found["backend"], found["algorithm"]) == ("toy", "straight")
    assert program_versions(tmp_path, ["sub-1"]) == {"Toy": "1.2"}


def test_a_new_backend_is_called_and_named_in_the_record(module, monkeypatch, tmp_path):
    bvals, bvecs = gradients(12, 1000.0)
    data = np.random.default_rng(0).uniform(100, 900, (6, 6, 6, len(bvals))).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), tmp_path / "dwi.nii.gz")
    np.savetxt(tmp_path / "bval", bvals[None], fmt="%g")
    np.savetxt(tmp_path / "bvec", bvecs.T)

    def correct(dwi_path, given, series, options, scratch, threads):
        assert series.volume.shape[:3] == (6, 6, 6) and options.backend == "toy"
        copied = scratch / "copied.nii.gz"
        shutil.copy(dwi_path, copied)
        return copied, given, [Call(("toyclean", f"{scratch}/a.mif"), "3", "", 0)]

    module("toy_backend", correct=correct)
    record = Backend("toy_backend:correct", lambda section: ("toyclean",), lambda section: "Clean.")
    monkeypatch.setitem(PREPROCESS_BACKENDS, "toy", record)
    status = tmp_path / "status.json"
    preprocess.correct_unit(
        unit="sub-1",
        dwi_path=tmp_path / "dwi.nii.gz",
        bval=tmp_path / "bval",
        bvec=tmp_path / "bvec",
        out_dwi=tmp_path / "out.nii.gz",
        out_bval=tmp_path / "out.bval",
        out_bvec=tmp_path / "out.bvec",
        status=status,
        section=Preprocess(backend="toy"),
    )
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii.gz").get_fdata(), data)
    called = {"arguments": ["toyclean", "a.mif"], "version": "3", "exit_status": 0}
    assert read_json(status)["programs"] == [called]
    assert read_json(status)["backend"] == "toy"
    assert Preprocess(backend="toy").commands == ("toyclean",)


@pytest.mark.parametrize(
    ("section", "key", "known"),
    [
        (Preprocess, "backend", "none, mrtrix3, fsl"),
        (Tractography, "backend", "dipy, mrtrix3"),
        (Grid, "density", "dipy, tckmap"),
    ],
)
def test_a_name_without_a_record_is_refused_and_the_known_ones_are_named(section, key, known):
    with pytest.raises(ValidationError, match=f"'nothing' is not one of {known}"):
        section(**{key: "nothing"})


@pytest.mark.parametrize("record", [*PREPROCESS_BACKENDS.values(), *TRACKERS.values(), *MAPPERS.values()])
def test_every_record_names_an_existing_function(record):
    assert record is PREPROCESS_BACKENDS["none"] or callable(record.load())


def test_a_program_without_a_record_is_an_error_and_not_assigned_to_another(tmp_path):
    path = tmp_path / "sub-1/dwi/sub-1_desc-preproc_status.json"
    write_json(path, {"programs": [{"arguments": ["unheard-of"], "version": "1"}]})
    with pytest.raises(KeyError, match="unheard-of"):
        program_versions(tmp_path, ["sub-1"])
