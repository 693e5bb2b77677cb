"""Participants made of real parts: the group's FA and directions arrive in each T1, and T1s vary as asked for."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner
from workflow import PLAN, planned, snakemake

from m2m.cli import app
from m2m.diffusion.tensors import from_matrix, measures, to_matrix
from m2m.io.bids import files_of
from m2m.io.errors import DataError
from m2m.io.tables import read_table
from m2m.io.volume import Volume, load, save
from m2m.options import Config, T1Variation, Template
from m2m.phantom import anatomy_of, group_streamlines, list_anatomies, real_head, signal, simulate
from m2m.phantom.group_maps import GroupMaps, orientation_of
from m2m.phantom.raw_dataset import participants_of
from m2m.phantom.t1_variation import vary
from m2m.structural import group_map
from m2m.structural.template import load_template

PARTS = {"anatomies": "anatomies", "fa_map": "fa.nii.gz", "bundles": "bundles.npz"}
NO_VARIATION = T1Variation(tone=0, bias=0, thick_mm=0, cut_mm=0, edge_mm=0)
STILL = Template(**PARTS, deformation_mm=0, microstructure_sd=0, t1_snr=1e6, t1=NO_VARIATION, dwi_spacing_mm=4.0)
SCHEME = signal.gradient_scheme(1, 30, 1000.0)
LINES = {"across": ((-40, 0, 24), (40, 0, 24)), "along": ((24, -50, 20), (24, 40, 20)), "empty": None}


def write_bundles(path: Path) -> Path:
    """Two straight bundles of 25 streamlines each, and one without any."""
    points, offsets, bundle = [], [0], []
    for index, ends in enumerate(LINES.values()):
        for shift in np.ndindex(5, 5) if ends else ():
            steps = np.linspace(0, 1, 41)[:, None]
            line = np.array(ends[0]) + steps * (np.array(ends[1]) - np.array(ends[0]))
            line[:, [1 - index, 2]] += np.array(shift) - 2
            points.append(line)
            offsets.append(offsets[-1] + len(line))
            bundle.append(index)
    arrays = {"points_mni_mm": np.concatenate(points).astype(np.float16), "offsets": np.array(offsets, np.uint32)}
    np.savez(path, **arrays, bundle=np.array(bundle, np.uint8), names=np.array(list(LINES)))
    return path


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    return group_streamlines.load_segments(write_bundles(tmp_path_factory.mktemp("bundles") / "bundles.npz"))


def ramp(points):
    """FA that differs along every axis of MNI152."""
    return 0.4 + 0.003 * points[:, 0] + 0.001 * points[:, 1] - 0.002 * points[:, 2]


@pytest.fixture(scope="module")
def group(segments):
    brain = load_template("brain", 2.0)
    fa = ramp(apply_affine(brain.affine, np.indices(brain.shape).reshape(3, -1).T)).reshape(brain.shape)
    orientation = orientation_of(segments)
    number = group_streamlines.strongest_bundle(segments, orientation, 2.0, 0.5)
    return GroupMaps(
        Volume(fa.clip(0.05, 0.9).astype(np.float32), brain.affine), orientation, Volume(number, brain.affine)
    )


# A T1 and the template that is known to lie in it: larger, turned, and shifted by a displacement.
TO_MNI = np.eye(4)
TO_MNI[:3, :3] = 1.1 * Rotation.from_euler("z", 25, degrees=True).as_matrix()
TO_MNI[:3, 3] = (3, -9, 4)
SHIFT_MM = np.array([2.0, -3.0, 1.0])


@pytest.fixture(scope="module")
def registered():
    t1 = load_template("t1", 3.0)
    back = np.linalg.inv(TO_MNI)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = apply_affine(back, (0, -17, 10)) - 3.0 * np.array([32, 38, 30])
    grid = (64, 76, 60)
    points = apply_affine(affine, np.indices(grid).reshape(3, -1).T) + SHIFT_MM
    voxels = apply_affine(np.linalg.inv(t1.affine) @ TO_MNI, points)
    data = ndimage.map_coordinates(t1.data, voxels.T, order=1).reshape(grid) / 0.8
    forward = Volume(np.broadcast_to(SHIFT_MM.astype(np.float32), (*grid, 3)), affine)
    return real_head.RegisteredT1(Volume(data, affine), apply_affine(affine, (32, 38, 30)), forward, TO_MNI)


def head_of(options, registered, group, segments, label="0003"):
    return real_head.make_head(options, label, registered, group, segments, 40.0, "F")


def scan(head, spacing_mm=6.0):
    """Diffusion of a head in the voxels of a grid, and T1 world mm of these voxels."""
    affine, grid = simulate.grid(spacing_mm, flip_x=True)
    found = real_head.simulate_diffusion(head, affine, grid, *SCHEME)
    return found, apply_affine(affine, np.array(np.unravel_index(found.inside, grid)).T)


def inside(points, volume):
    """Whether points lie between voxels of a volume."""
    voxels = apply_affine(np.linalg.inv(volume.affine), points)
    return ((voxels >= 1) & (voxels <= np.array(volume.shape) - 2)).all(axis=1)


# FA and directions arrive


def test_fa_of_the_noise_free_signal_is_that_of_the_group_at_the_corresponding_point(registered, group, segments):
    head = head_of(STILL, registered, group, segments)
    found, points = scan(head)
    mni = apply_affine(TO_MNI, apply_affine(head.individual.to_brain, points) + SHIFT_MM)
    expected = ramp(mni).clip(0.05, 0.9)
    assert expected.std() > 0.08
    covered = inside(mni, group.fa)
    np.testing.assert_allclose(found.fa[covered], expected[covered], atol=0.02)


def test_a_further_deformation_moves_fa_and_t1_alike(registered, group, segments):
    options = STILL.model_copy(update={"deformation_mm": 4.0})
    still, displaced = (head_of(one, registered, group, segments) for one in (STILL, options))
    found, points = scan(displaced)
    shift_mm = displaced.to_mni(points) - still.to_mni(points)
    assert 2 < np.sqrt((shift_mm**2).sum(axis=1).mean()) < 7
    mni = displaced.to_mni(points)
    covered = inside(mni, group.fa)
    np.testing.assert_allclose(found.fa[covered], ramp(mni[covered]).clip(0.05, 0.9), atol=0.02)
    affine, grid = simulate.grid(4.0)
    t1 = real_head.simulate_t1(displaced, affine, grid, np.random.default_rng(0), options)
    everywhere = apply_affine(affine, np.indices(grid).reshape(3, -1).T)
    template = load_template("t1", 3.0)
    voxels = apply_affine(np.linalg.inv(template.affine), displaced.to_mni(everywhere))
    expected = ndimage.map_coordinates(template.data, voxels.T, order=1) / 0.8
    assert np.corrcoef(t1.ravel(), expected)[0, 1] > 0.98


def test_the_principal_direction_turns_with_the_head(registered, group, segments):
    head = head_of(STILL.model_copy(update={"oblique_deg": 45.0}), registered, group, segments)
    turn = np.linalg.inv(TO_MNI[:3, :3] @ head.individual.to_brain[:3, :3])
    turn /= np.linalg.norm(turn, axis=0)
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) > 15  # or the rest proves nothing
    found, points = scan(head, 3.0)
    mni, v1 = head.to_mni(points), measures(found.tensor).v1
    for axis, centre in ((0, (0, 0, 24)), (1, (24, -30, 20))):
        near = np.linalg.norm(mni - centre, axis=1) < 3
        assert near.sum() > 2
        angle = np.degrees(np.arccos(np.abs(v1[near] @ turn[:, axis]).clip(0, 1)))
        assert angle.max() < 12
    there = np.linalg.norm(mni - (0, 0, 24), axis=1) < 3
    assert set(found.labels[there]) == {1}


def test_crossing_fibres_give_planar_tensors_of_the_fa_asked_for():
    crossing = from_matrix(np.array([np.diag([0.5, 0.5, 0.0]), np.diag([0.8, 0.15, 0.05]), np.eye(3) / 3]))
    fa = np.array([0.4, 0.3, 0.2])
    six = real_head.shaped(crossing, fa)
    np.testing.assert_allclose(measures(six).fa, fa, atol=1e-6)
    low, middle, high = np.linalg.eigvalsh(to_matrix(six))[0]
    assert high - middle < middle - low
    many = np.random.default_rng(0).dirichlet([1, 1, 1], 200)
    for level in (0.05, 0.5, 0.59, 0.8, 0.95):
        six = real_head.shaped(from_matrix(many[:, :, None] * np.eye(3)), np.full(200, level))
        np.testing.assert_allclose(measures(six).fa, level, atol=1e-6)
        np.testing.assert_allclose(measures(six).md, 1, atol=1e-6)
        assert np.linalg.eigvalsh(to_matrix(six)).min() > 0
        assert (np.abs(measures(six).v1[np.arange(200), many.argmax(axis=1)]) > 0.999).all()


def test_bundles_differ_between_participants_and_only_the_shared_part_shows_in_t1(registered, group, segments):
    options = STILL.model_copy(update={"microstructure_sd": 0.2})
    hidden = options.model_copy(update={"effects": STILL.effects.model_copy(update={"t1_share": 0.0, "in_t1": False})})
    at = np.array([(0.0, 0, 24), (24, -30, 20), (-40, -60, 30)])
    shifts = np.array(
        [
            real_head.group_fa(head_of(options, registered, group, segments, f"{label:04d}"), at) - ramp(at)
            for label in range(1, 9)
        ]
    )
    assert (shifts[:, :2].std(axis=0) > 0.02).all() and np.abs(shifts[:, 2]).max() < 0.005
    for one, low, high in ((options, 0.02, 1.0), (hidden, 0.0, 1e-6)):
        myelin = head_of(one, registered, group, segments).deviation.data[..., 1]
        assert low <= np.abs(myelin).max() <= high


def test_a_group_map_is_moved_to_the_template(monkeypatch):
    monkeypatch.setattr(group_map, "TEMPLATE_MM", 4.0)
    wm, gm = (load_template(tissue, 4.0) for tissue in ("wm", "gm"))
    fa = Volume(0.45 * wm.data + 0.12 * gm.data, wm.affine)
    apart = np.eye(4)
    apart[:3, 3] = (1, -2, 6)
    found = group_map.to_template(Volume(fa.data, apart @ fa.affine))
    assert found.shape == fa.shape
    r = [np.corrcoef(x.ravel(), fa.data.ravel())[0, 1] for x in (found.data, np.roll(fa.data, (0, 0, 2), (0, 1, 2)))]
    assert r[0] > 0.97 > 0.9 > r[1]


# T1s vary


@pytest.fixture(scope="module")
def t1():
    return load_template("t1", 2.0).data / 0.8


def test_without_variation_a_t1_stays_what_it_is(t1):
    same = vary(t1, 2.0, NO_VARIATION, np.random.default_rng(0), 1e7)
    np.testing.assert_allclose(same, t1, atol=1e-4)


@pytest.mark.parametrize("change", ["tone", "bias", "thick_mm", "cut_mm", "edge_mm"])
def test_each_variation_changes_a_t1_in_its_own_way(t1, change):
    size = {"tone": 0.4, "bias": 0.2, "thick_mm": 6.0, "cut_mm": 40.0, "edge_mm": 6.0}[change]
    options = NO_VARIATION.model_copy(update={change: size, "thick_share": 1.0, "cut_share": 1.0})
    varied = vary(t1, 2.0, options, np.random.default_rng(1), 1e7)
    brain = t1 > 0.02
    assert np.abs(varied - t1)[brain].mean() > 0.005
    if change == "tone":
        order = np.argsort(t1[brain])
        assert (np.diff(varied[brain][order]) > -1e-4).all()
        assert np.interp(1.0, t1[brain][order], varied[brain][order]) == pytest.approx(1, abs=0.01)
    elif change == "bias":
        ratio = varied[brain] / t1[brain]
        assert ratio.min() > 0.5 and ratio.max() < 2
    elif change == "thick_mm":
        steps = [np.abs(np.diff(varied, axis=axis)).sum() / np.abs(np.diff(t1, axis=axis)).sum() for axis in range(3)]
        assert min(steps) < 0.95 * max(steps)
    elif change == "cut_mm":
        lost = brain & (varied < 0.01)
        z = np.flatnonzero(lost.any(axis=(0, 1)))
        assert z.size and lost[..., z].sum() == brain[..., z].sum()
    else:
        depth_mm = 2.0 * (ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain))
        changed = np.abs(varied - t1) > 0.02
        assert (
            np.abs(depth_mm[changed]).max() <= size and (depth_mm[changed] > 0).any() and (depth_mm[changed] < 0).any()
        )


# The dataset


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two anatomies, a map and bundles on disk, as options."""
    folder = tmp_path_factory.mktemp("parts")
    t1, wm, gm = (load_template(tissue, 3.0) for tissue in ("t1", "wm", "gm"))
    for name, size in (("sub-A", 0.9), ("sub-B", 0.98)):
        affine = np.diag([size, size, size, 1.0]) @ t1.affine
        save(folder / f"anatomies/{name}_T1w.nii.gz", Volume(np.rint(t1.data * 200), affine), dtype=np.uint8)
    (folder / "anatomies/participants.tsv").write_text("participant_id\tage\tsex\nsub-A\t33\tF\nsub-B\tn/a\tM\n")
    save(folder / "fa.nii.gz", Volume(0.45 * wm.data + 0.12 * gm.data, wm.affine))
    write_bundles(folder / "bundles.npz")
    paths = {name: str(folder / where) for name, where in PARTS.items()}
    return paths | {"n_subjects": 3, "t1_spacing_mm": 4.0, "dwi_spacing_mm": 5.0, "n_directions": 6}


def test_participants_of_one_anatomy_are_a_family_with_its_age_and_sex(parts):
    rows = participants_of(Template(**parts))
    assert [row["family_id"] for row in rows] == ["A", "B", "A"]
    assert [(row["age"], row["sex"]) for row in rows] == [(33, "F"), (None, "M"), (33, "F")]


def test_both_stages_and_the_group_s_maps_write_a_dataset_like_the_phantom_s(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(group_map, "TEMPLATE_MM", 4.0)
    monkeypatch.setattr(real_head, "REGISTERED", real_head.REGISTERED.model_copy(update={"spacing_mm": 4.0}))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"cohort": {"source": "template", "template": parts}}))
    for command in (["participants"], ["group-maps"], ["simulate", "--subject", "sub-0003"]):
        result = CliRunner().invoke(app, [*command, "--root", str(tmp_path / "r"), "--config", str(config)])
        assert result.exit_code == 0, result.output
    table = read_table(tmp_path / "r/rawdata/participants.tsv")
    assert [row["participant_id"] for row in table] == ["sub-0001", "sub-0002", "sub-0003"]
    assert [row["name"] for row in read_table(tmp_path / "r/truth/desc-bundles_dseg.tsv")] == list(LINES)
    truth = files_of("sub-0003", tmp_path / "r/truth")
    assert (
        json.loads(truth("truth-fa").with_suffix("").with_suffix(".json").read_text())["Anatomy"] == "sub-A_T1w.nii.gz"
    )
    t1 = load(tmp_path / "r/rawdata/sub-0003/anat/sub-0003_T1w.nii.gz")
    fa, regions = (load(truth(kind)) for kind in ("truth-fa", "truth-bundles"))
    at = apply_affine(np.linalg.inv(t1.affine) @ fa.affine, np.argwhere(fa.data > 0.35))
    assert np.mean(ndimage.map_coordinates(t1.data, at.T, order=1) > 700) > 0.8  # white matter is about 1000
    assert set(np.unique(regions.data)) <= {0, 1, 2} and (regions.data > 0).any()
    dwi = nib.load(tmp_path / "r/rawdata/sub-0003/dwi/sub-0003_dwi.nii.gz")
    assert dwi.shape[3] == 7


@pytest.mark.parametrize(
    ("key", "content", "named"),
    [
        ("anatomies", None, "no such folder"),
        ("anatomies", "empty", "has no T1"),
        ("bundles", None, "is no file of streamlines"),
        ("bundles", "text", "is no file of streamlines"),
    ],
)
def test_a_part_that_is_missing_is_named(parts, tmp_path, key, content, named):
    path = tmp_path / "part"
    if key == "anatomies" and content:
        path.mkdir()
    elif content:
        path.write_text(content)
    section = Template(**parts | {key: str(path)})
    with pytest.raises(DataError, match=named):
        list_anatomies(section.anatomies) if key == "anatomies" else group_streamlines.load_segments(section.bundles)


def test_a_source_of_real_parts_needs_its_section():
    with pytest.raises(ValueError, match=r"cohort\.template must name anatomies"):
        Config.model_validate({"dataset": "d", "models": {}, "tasks": {}, "cohort": {"source": "template"}})


def test_the_workflow_plans_a_cohort_of_real_parts_and_stops_without_them(parts, tmp_path):
    cohort = {"source": "template", "template": parts}
    jobs = planned(snakemake(tmp_path, "cohort", *PLAN, "--config", f"cohort={json.dumps(cohort)}").stdout)
    assert jobs["simulate"] == 3 and jobs["group_maps"] == jobs["participants"] == 1
    cohort["template"] = parts | {"anatomies": str(tmp_path / "none")}
    stopped = snakemake(tmp_path, "cohort", *PLAN, "--config", f"cohort={json.dumps(cohort)}")
    assert stopped.returncode and "cohort.template.anatomies: there is no such folder" in stopped.stdout


# Real parts


def test_a_real_t1_and_a_real_group_agree_after_registration(shared_data, monkeypatch):
    """The carried FA is high in the white matter that the T1 shows, and low elsewhere."""
    anatomies = list_anatomies(shared_data / "anatomies")
    assert len(anatomies) == 60 and anatomy_of("0061", anatomies) == anatomies[0]
    monkeypatch.setattr(real_head, "REGISTERED", real_head.REGISTERED.model_copy(update={"spacing_mm": 4.0}))
    monkeypatch.setattr(group_map, "TEMPLATE_MM", 4.0)
    segments = group_streamlines.load_segments(shared_data / "templates/HCP1065_bundles.npz")
    assert len(segments.names) == 106
    orientation = orientation_of(segments)
    fa = group_map.to_template(load(shared_data / "templates/MNI_FA_template.nii.gz"))
    group = GroupMaps(fa, orientation, Volume(np.zeros(orientation.shape, np.int16), orientation.affine))
    head = head_of(STILL, real_head.register_t1(anatomies[7]), group, segments)
    found, points = scan(head, 4.0)
    voxels = apply_affine(np.linalg.inv(head.registered.t1.affine), head.to_anatomy(points))
    t1 = ndimage.map_coordinates(head.registered.t1.data, voxels.T, order=1)
    white, grey = (t1 > 0.9) & (t1 < 1.1), (t1 > 0.5) & (t1 < 0.7)
    assert found.fa[white].mean() > 1.7 * found.fa[grey].mean()
    corpus = np.abs(head.to_mni(points) - (0, -36, 12)).max(axis=1) < 5
    turn = np.linalg.inv(head.individual.to_brain)[:3, 0]
    assert np.median(np.abs(measures(found.tensor[corpus]).v1 @ turn)) > 0.9
