"""Simulated people: draws, effects, and the raw BIDS dataset with its truth."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.io.gradients import read_bvals_bvecs
from dipy.reconst.dti import TensorModel
from scipy import ndimage
from typer.testing import CliRunner

from m2m.cli import app
from m2m.diffusion import tensors
from m2m.io.bids import files_of
from m2m.options import Effects, Phantom
from m2m.phantom import anatomy, brain, labels, people, signal
from m2m.phantom.bundles import BUNDLES, NAMES

OPTIONS = Phantom()
NONE = Effects(
    fa_per_decade=0, ventricle_per_decade=0, brain_volume_per_decade=0, brain_volume_male=0,
    fa_male=0, t1_share=0.6,
)  # fmt: skip


# People


def test_a_person_depends_on_seed_and_label_only():
    one = people.draw(OPTIONS, "0007")
    other = people.draw(OPTIONS.model_copy(update={"n_subjects": 99, "snr": 5.0}), "0007")
    np.testing.assert_array_equal(one.fa, other.fa)
    np.testing.assert_array_equal(one.to_brain, other.to_brain)
    reseeded = people.draw(OPTIONS.model_copy(update={"seed": 1}), "0007")
    assert np.abs(one.fa - reseeded.fa).max() > 0.01
    assert np.abs(one.fa - people.draw(OPTIONS, "0008").fa).max() > 0.01


def test_age_and_sex_act_as_declared():
    quiet = OPTIONS.model_copy(update={"microstructure_sd": 0.0})

    def mean_fa(age, sex):
        return people.microstructure(np.random.default_rng(0), quiet, age, sex)[0].mean()

    slope = (mean_fa(60, "F") - mean_fa(40, "F")) / 2
    assert slope == pytest.approx(quiet.effects.fa_per_decade, rel=0.15)
    assert mean_fa(50, "M") - mean_fa(50, "F") == pytest.approx(quiet.effects.fa_male, rel=0.15)
    drawn = [people.draw(OPTIONS, label) for label in labels(300)]
    old, male = (
        np.array([f(p) for p in drawn]) for f in (lambda p: p.age_years, lambda p: p.sex == "M")
    )
    design = np.column_stack([np.ones(300), old / 10, male])
    for values, effect, column in (
        ([p.brain_volume for p in drawn], "brain_volume_male", 2),
        ([p.brain_volume for p in drawn], "brain_volume_per_decade", 1),
        ([p.ventricles for p in drawn], "ventricle_per_decade", 1),
    ):
        found = np.expm1(np.linalg.lstsq(design, np.log(values), rcond=None)[0][column])
        assert found == pytest.approx(getattr(OPTIONS.effects, effect), abs=0.025), effect
    assert 0.4 < male.mean() < 0.6


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_t1_shows_its_share_of_the_microstructure(share):
    effects = NONE.model_copy(update={"t1_share": share})
    options = OPTIONS.model_copy(update={"effects": effects})
    typical = np.array([b.fa for b in BUNDLES] + [people.RADIAL_FA])
    fa, myelin = zip(
        *(people.microstructure(np.random.default_rng(i), options, 50, "F") for i in range(200)),
        strict=True,
    )
    relative = np.array(fa) / typical - 1
    assert relative[:, 3].std() == pytest.approx(OPTIONS.microstructure_sd, rel=0.2)
    if share == 0:
        assert np.abs(myelin).max() == 0
    else:
        r = np.corrcoef(np.array(myelin)[:, 3], relative[:, 3])[0, 1]
        assert r**2 == pytest.approx(share, abs=0.12)


def test_people_differ_beyond_what_an_affine_transform_undoes():
    """Brain by brain in its own affine frame, mean FA explains little of a person's FA."""
    template = anatomy.load_template()
    affine, grid = np.diag([6.0, 6.0, 6.0, 1.0]), (26, 32, 26)
    affine[:3, 3] = (-75, -107, -71)
    bvals, directions = signal.gradient_scheme(1, 12, 1000.0)
    maps = np.zeros((3, np.prod(grid)))
    for i, label in enumerate(labels(3)):
        one = brain.make_brain(people.draw(OPTIONS, label), template, OPTIONS)
        truth = brain.simulate_diffusion(
            one, np.linalg.inv(one.person.to_brain) @ affine, grid, bvals, directions
        )
        maps[i, truth.inside] = truth.fa
    both = (maps > 0).all(axis=0)
    r = np.corrcoef(maps[:, both])[np.triu_indices(3, 1)]
    assert (r > 0.3).all() and (r < 0.85).all()


# Files

SMALL = json.dumps(
    {
        "t1_spacing_mm": 6.0, "dwi_spacing_mm": 8.0, "n_directions": 6, "n_b0": 1, "n_subjects": 2,
        "motion_mm": 20.0, "motion_deg": 50.0, "snr": 200.0,
    }
)  # fmt: skip


def _paths(root: Path, label: str) -> dict[str, Path]:
    raw, truth = root / "rawdata" / f"sub-{label}", files_of(f"sub-{label}", root / "truth")
    return {
        "t1w": raw / "anat" / f"sub-{label}_T1w.nii.gz",
        "dwi": raw / "dwi" / f"sub-{label}_dwi.nii.gz",
        "bval": raw / "dwi" / f"sub-{label}_dwi.bval",
        "bvec": raw / "dwi" / f"sub-{label}_dwi.bvec",
    } | {kind: truth(kind) for kind in ("truth-fa", "truth-tensor", "truth-bundles")}


def _run(command: str, root: Path, *flags: str, options: str = SMALL):
    arguments = [command, "--root", str(root), *flags, "--options", options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for command, *flags in (
        ("participants",),
        ("simulate", "--subject", "sub-0001"),
        ("simulate", "--subject", "sub-0002"),
    ):
        result = _run(command, root, *flags)
        assert result.exit_code == 0, result.output
    return root


def test_dataset_is_valid_bids(dataset):
    from bids import BIDSLayout

    layout = BIDSLayout(dataset / "rawdata", validate=True)
    assert layout.get_subjects() == ["0001", "0002"]
    assert len(layout.get(suffix="T1w", extension=".nii.gz")) == 2
    for image in layout.get(suffix="dwi", extension=".nii.gz"):
        bvals, bvecs = read_bvals_bvecs(layout.get_bval(image.path), layout.get_bvec(image.path))
        assert image.get_image().shape[3] == len(bvals) == len(bvecs) == 7
        assert layout.get_metadata(image.path)["Manufacturer"] == "simulated"
    description = json.loads((dataset / "rawdata" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw" and description["BIDSVersion"]


def test_more_people_change_nobody(dataset, tmp_path):
    more = SMALL.replace('"n_subjects": 2', '"n_subjects": 5')
    assert _run("participants", tmp_path, options=more).exit_code == 0
    few, many = (
        (r / "rawdata" / "participants.tsv").read_text().splitlines() for r in (dataset, tmp_path)
    )
    assert many[:3] == few and len(many) == 6
    assert few[1].startswith("sub-0001\t")


def test_same_seed_gives_the_same_files(dataset, tmp_path):
    assert _run("simulate", tmp_path, "--subject", "sub-0001").exit_code == 0
    for name, path in _paths(dataset, "0001").items():
        assert path.read_bytes() == _paths(tmp_path, "0001")[name].read_bytes(), name


def test_truth_stands_where_the_head_was(dataset):
    """Truth's affine carries DWI voxels to T1 world, its tensors are in T1 axes."""
    paths = _paths(dataset, "0001")
    dwi, fa, tensor, t1 = (nib.load(paths[k]) for k in ("dwi", "truth-fa", "truth-tensor", "t1w"))
    sidecar = json.loads(paths["truth-fa"].with_suffix("").with_suffix(".json").read_text())
    motion = np.array(sidecar["DwiWorldToT1World"])
    turn = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
    assert turn > 10  # or the rest proves nothing
    np.testing.assert_allclose(fa.affine, motion @ dwi.affine, atol=1e-3)

    def seen_in_t1(voxels):
        where = nib.affines.apply_affine(np.linalg.inv(t1.affine) @ fa.affine, voxels).T
        return ndimage.map_coordinates(t1.get_fdata(), where, order=1)

    signal_there = dwi.get_fdata()
    head = np.argwhere(signal_there[..., 0] > 500)
    assert np.mean(seen_in_t1(head) > 150) > 0.97
    strong = np.argwhere(fa.get_fdata() > 0.55)
    assert np.median(seen_in_t1(strong)) > 700  # white matter is about 880

    bvals, bvecs = read_bvals_bvecs(str(paths["bval"]), str(paths["bvec"]))
    axes = dwi.affine[:3, :3] / np.linalg.norm(dwi.affine[:3, :3], axis=0)
    fsl = np.diag([-1, 1, 1]) if np.linalg.det(axes) > 0 else np.eye(3)
    gtab = gradient_table(bvals, bvecs=bvecs @ fsl @ axes.T)
    fitted = (
        TensorModel(gtab).fit(signal_there[tuple(strong.T)]).directions[:, 0] @ motion[:3, :3].T
    )
    full = np.empty((len(strong), 3, 3))
    elements = tensor.get_fdata()[tuple(strong.T)]
    full[:, tensors.ROWS, tensors.COLUMNS] = full[:, tensors.COLUMNS, tensors.ROWS] = elements
    true = np.linalg.eigh(full)[1][..., -1]
    angle = np.degrees(np.arccos(np.minimum(np.abs((fitted * true).sum(axis=1)), 1)))
    assert np.median(angle) < 2


def test_truth_tensor_and_regions_agree_with_the_truth_fa(dataset):
    paths = _paths(dataset, "0002")
    fa, tensor, regions = (
        nib.load(paths[f"truth-{k}"]).get_fdata() for k in ("fa", "tensor", "bundles")
    )
    again = tensors.measures(tensor.reshape(-1, 6)).fa.reshape(fa.shape)
    np.testing.assert_allclose(again, fa, atol=1e-4)
    assert set(np.unique(regions)) <= set(range(len(NAMES) + 1))
    table = (dataset / "truth" / "desc-bundles_dseg.tsv").read_text().splitlines()
    assert table[0] == "index\tname" and len(table) == len(NAMES) + 1
    assert fa[regions > 0].mean() > 2 * fa[(regions == 0) & (fa > 0)].mean()


def test_a_label_that_is_no_number_is_refused(tmp_path):
    result = _run("simulate", tmp_path, "--subject", "sub-ann")
    assert result.exit_code != 0 and "ann" in result.output
