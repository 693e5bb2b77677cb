"""Simulated participants: draws, effects, and the raw BIDS dataset with its ground truth."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.io.gradients import read_bvals_bvecs
from dipy.reconst.dti import TensorModel
from scipy import ndimage
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from m2m.cli import app
from m2m.diffusion import tensors
from m2m.io.bids import files_of
from m2m.io.tables import read_table
from m2m.options import Effects, Phantom
from m2m.phantom import anatomy, brain, individuals, labels, signal, simulate
from m2m.phantom.bundles import BUNDLES, NAMES

OPTIONS = Phantom()
NONE = Effects(
    fa_per_decade=0, ventricle_per_decade=0, brain_volume_per_decade=0, brain_volume_male=0, fa_male=0, t1_share=0.6
)


# Participants


def test_a_participant_depends_on_seed_and_label_only():
    one = individuals.draw(OPTIONS, "0007")
    other = individuals.draw(OPTIONS.model_copy(update={"n_subjects": 99, "snr": 5.0}), "0007")
    np.testing.assert_array_equal(one.fa, other.fa)
    np.testing.assert_array_equal(one.to_brain, other.to_brain)
    reseeded = individuals.draw(OPTIONS.model_copy(update={"seed": 1}), "0007")
    assert np.abs(one.fa - reseeded.fa).max() > 0.01
    assert np.abs(one.fa - individuals.draw(OPTIONS, "0008").fa).max() > 0.01


def test_scans_are_oblique_at_angles_of_their_own_and_nothing_else_changes():
    upright = OPTIONS.model_copy(update={"oblique_deg": 0.0})
    angles = []
    for label in labels(12):
        one, other = individuals.draw(OPTIONS, label), individuals.draw(upright, label)
        for name in ("age_years", "sex", "brain_volume", "ventricles", "fa", "myelin"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.pose.dwi_to_t1, other.pose.dwi_to_t1)
        np.testing.assert_array_equal(other.pose.t1_axes, np.eye(3))
        np.testing.assert_array_equal(other.pose.dwi_axes, np.eye(3))
        # The T1's field of view follows the head: its voxels show the same points of the brain.
        (affine, _), (straight, _) = (simulate.grid(2.0, axes=who.pose.t1_axes) for who in (one, other))
        np.testing.assert_allclose(one.to_brain @ affine, other.to_brain @ straight, atol=1e-9)
        angles.append(
            [np.degrees(Rotation.from_matrix(axes).magnitude()) for axes in (one.pose.t1_axes, one.pose.dwi_axes)]
        )
    angles = np.array(angles)
    assert (angles > 0).all() and (angles <= OPTIONS.oblique_deg).all()
    assert angles.max() > 0.7 * OPTIONS.oblique_deg and len(np.unique(angles.round(6))) == angles.size


def test_age_and_sex_have_the_effects_asked_for():
    quiet = OPTIONS.model_copy(update={"microstructure_sd": 0.0})

    def mean_fa(age, sex):
        return individuals.microstructure(np.random.default_rng(0), quiet, age, sex)[0].mean()

    slope = (mean_fa(60, "F") - mean_fa(40, "F")) / 2
    assert slope == pytest.approx(quiet.effects.fa_per_decade, rel=0.15)
    assert mean_fa(50, "M") - mean_fa(50, "F") == pytest.approx(quiet.effects.fa_male, rel=0.15)
    drawn = [individuals.draw(OPTIONS, label) for label in labels(300)]
    old, male = (np.array([f(p) for p in drawn]) for f in (lambda p: p.age_years, lambda p: p.sex == "M"))
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
def test_t1_has_its_share_of_the_microstructure(share):
    effects = NONE.model_copy(update={"t1_share": share})
    options = OPTIONS.model_copy(update={"effects": effects})
    typical = np.array([b.fa for b in BUNDLES] + [individuals.RADIAL_FA])
    fa, myelin = zip(
        *(individuals.microstructure(np.random.default_rng(i), options, 50, "F") for i in range(200)),
        strict=True,
    )
    relative = np.array(fa) / typical - 1
    assert relative[:, 3].std() == pytest.approx(OPTIONS.microstructure_sd, rel=0.2)
    if share == 0:
        assert np.abs(myelin).max() == 0
    else:
        r = np.corrcoef(np.array(myelin)[:, 3], relative[:, 3])[0, 1]
        assert r**2 == pytest.approx(share, abs=0.12)


def test_participants_differ_beyond_an_affine_transform():
    """Even in their own affine frames, the FA maps of two participants correlate only in part."""
    template = anatomy.load_template()
    affine, grid = np.diag([6.0, 6.0, 6.0, 1.0]), (26, 32, 26)
    affine[:3, 3] = (-75, -107, -71)
    bvals, directions = signal.gradient_scheme(1, 12, 1000.0)
    maps = np.zeros((3, np.prod(grid)))
    for i, label in enumerate(labels(3)):
        one = brain.make_brain(individuals.draw(OPTIONS, label), template, OPTIONS)
        truth = brain.simulate_diffusion(one, np.linalg.inv(one.individual.to_brain) @ affine, grid, bvals, directions)
        maps[i, truth.inside] = truth.fa
    both = (maps > 0).all(axis=0)
    r = np.corrcoef(maps[:, both])[np.triu_indices(3, 1)]
    assert (r > 0.3).all() and (r < 0.85).all()


# Files

SMALL = json.dumps(
    {
        "t1_spacing_mm": 6.0,
        "dwi_spacing_mm": 8.0,
        "n_directions": 6,
        "n_b0": 1,
        "n_subjects": 2,
        "motion_mm": 20.0,
        "motion_deg": 50.0,
        "snr": 200.0,
    }
)


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
    root = tmp_path_factory.mktemp("subjects")
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


def test_more_participants_change_no_participant(dataset, tmp_path):
    more = SMALL.replace('"n_subjects": 2', '"n_subjects": 5')
    assert _run("participants", tmp_path, options=more).exit_code == 0
    few, many = ((r / "rawdata" / "participants.tsv").read_text().splitlines() for r in (dataset, tmp_path))
    assert many[:3] == few and len(many) == 6
    assert few[1].startswith("sub-0001\t")


def test_same_seed_gives_the_same_files(dataset, tmp_path):
    assert _run("simulate", tmp_path, "--subject", "sub-0001").exit_code == 0
    for name, path in _paths(dataset, "0001").items():
        assert path.read_bytes() == _paths(tmp_path, "0001")[name].read_bytes(), name


def test_a_scanner_changes_the_scans_and_not_the_participant(dataset, tmp_path):
    own = {"dwi_spacing_mm": 10.0, "n_directions": 9, "b_s_per_mm2": 700.0, "snr": 10.0, "t1_contrast": 2.0}
    options = json.dumps(json.loads(SMALL) | {"n_subjects": 40, "scanners": {"one": own, "two": {}, "three": {}}})
    assert _run("participants", tmp_path, options=options).exit_code == 0
    rows = read_table(tmp_path / "rawdata" / "participants.tsv")
    without = read_table(dataset / "rawdata" / "participants.tsv")
    assert [row["age"] for row in rows[:2]] == [row["age"] for row in without]
    sites = [row["site"] for row in rows]
    assert sites[:2] == ["one", "three"] and all(7 < sites.count(site) < 20 for site in ("one", "two", "three"))
    for subject, site in zip(("sub-0001", "sub-0002"), sites, strict=False):
        assert _run("simulate", tmp_path, "--subject", subject, options=options).exit_code == 0
        here, there = (_paths(root, subject.removeprefix("sub-")) for root in (tmp_path, dataset))
        scan = nib.load(here["dwi"])
        assert (here["dwi"].read_bytes() == there["dwi"].read_bytes()) is (site == "three")
        assert scan.shape[3] == (10 if site == "one" else 7)
        assert scan.header.get_zooms()[0] == pytest.approx(10 if site == "one" else 8)
        sidecars = [json.loads(p["truth-fa"].with_suffix("").with_suffix(".json").read_text()) for p in (here, there)]
        assert sidecars[0]["BundleFibreFA"] == sidecars[1]["BundleFibreFA"]
        t1s = [nib.load(paths["t1w"]).get_fdata() for paths in (here, there)]
        grey = (t1s[1] > 500) & (t1s[1] < 700)
        darker = t1s[0][grey].mean() / t1s[1][grey].mean()
        assert darker < 0.8 if site == "one" else darker == 1


def test_participants_of_a_scanner_have_its_ages(tmp_path):
    scanners = {"young": {"age_years": [8, 12]}, "old": {"age_years": [70, 80]}}
    options = json.dumps({"n_subjects": 20, "scanners": scanners})
    assert _run("participants", tmp_path, options=options).exit_code == 0
    for row in read_table(tmp_path / "rawdata" / "participants.tsv"):
        low, high = scanners[row["site"]]["age_years"]
        assert low <= float(row["age"]) <= high


def test_the_ground_truth_is_at_the_head_s_position_in_t1(dataset):
    """The ground truth's affine maps DWI voxels to T1 world; its tensors are in T1 axes."""
    paths = _paths(dataset, "0001")
    dwi, fa, tensor, t1 = (nib.load(paths[k]) for k in ("dwi", "truth-fa", "truth-tensor", "t1w"))
    sidecar = json.loads(paths["truth-fa"].with_suffix("").with_suffix(".json").read_text())
    motion = np.array(sidecar["DwiWorldToT1World"])
    rotation_deg = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
    assert rotation_deg > 10  # or the rest proves nothing
    np.testing.assert_allclose(fa.affine, motion @ dwi.affine, atol=1e-3)

    def t1_at(voxels):
        where = nib.affines.apply_affine(np.linalg.inv(t1.affine) @ fa.affine, voxels).T
        return ndimage.map_coordinates(t1.get_fdata(), where, order=1)

    data = dwi.get_fdata()
    head = np.argwhere(data[..., 0] > 500)
    assert np.mean(t1_at(head) > 150) > 0.97
    strong = np.argwhere(fa.get_fdata() > 0.55)
    assert np.median(t1_at(strong)) > 700  # white matter is about 880

    bvals, bvecs = read_bvals_bvecs(str(paths["bval"]), str(paths["bvec"]))
    axes = dwi.affine[:3, :3] / np.linalg.norm(dwi.affine[:3, :3], axis=0)
    fsl = np.diag([-1, 1, 1]) if np.linalg.det(axes) > 0 else np.eye(3)
    gtab = gradient_table(bvals, bvecs=bvecs @ fsl @ axes.T)
    fitted = TensorModel(gtab).fit(data[tuple(strong.T)]).directions[:, 0] @ motion[:3, :3].T
    full = np.empty((len(strong), 3, 3))
    elements = tensor.get_fdata()[tuple(strong.T)]
    full[:, tensors.ROWS, tensors.COLUMNS] = full[:, tensors.COLUMNS, tensors.ROWS] = elements
    expected = np.linalg.eigh(full)[1][..., -1]
    angle = np.degrees(np.arccos(np.minimum(np.abs((fitted * expected).sum(axis=1)), 1)))
    assert np.median(angle) < 2


def test_both_scans_of_every_participant_are_oblique(dataset):
    for label in ("0001", "0002"):
        for kind in ("t1w", "dwi"):
            affine = nib.load(_paths(dataset, label)[kind]).affine
            assert 0.5 < np.degrees(nib.affines.obliquity(affine)).max() <= OPTIONS.oblique_deg
    assert "Both scans are oblique, by up to 15 degrees" in (dataset / "rawdata" / "README").read_text()


def test_true_tensors_and_regions_agree_with_the_true_fa(dataset):
    paths = _paths(dataset, "0002")
    fa, tensor, regions = (nib.load(paths[f"truth-{k}"]).get_fdata() for k in ("fa", "tensor", "bundles"))
    again = tensors.measures(tensor.reshape(-1, 6)).fa.reshape(fa.shape)
    np.testing.assert_allclose(again, fa, atol=1e-4)
    assert set(np.unique(regions)) <= set(range(len(NAMES) + 1))
    table = (dataset / "truth" / "desc-bundles_dseg.tsv").read_text().splitlines()
    assert table[0] == "index\tname" and len(table) == len(NAMES) + 1
    assert fa[regions > 0].mean() > 2 * fa[(regions == 0) & (fa > 0)].mean()


def test_a_label_that_is_no_number_is_refused(tmp_path):
    result = _run("simulate", tmp_path, "--subject", "sub-ann")
    assert result.exit_code != 0 and "ann" in result.output
