"""Deformation of the template to a T1: known displacements, folding, rotations, files and the family that uses them."""

from types import SimpleNamespace

import numpy as np
import pytest
from nibabel.affines import apply_affine
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from m2m.diffusion.tensors import from_matrix, nearest_rotation, voxel_axes
from m2m.io.bids import files_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, load, resample, save
from m2m.models import reference_map
from m2m.models.baselines import MeasuredMap, fit_mean_map, predict_mean_map
from m2m.models.families import atlas_model, mean_model
from m2m.models.inference import translate_volume
from m2m.models.subject_images import TrainingImages
from m2m.models.torch_engine import torch_engine
from m2m.networks.octave import OctaveTranslator
from m2m.networks.slice_inputs import SliceInputs
from m2m.options import FAMILIES, Config, Deformation
from m2m.structural import deformation
from m2m.structural.displacement import jacobians, local_rotations, template_places
from m2m.structural.slices import PLANES, positions, slices_at
from m2m.structural.template import load_template
from m2m.train.closed_form import as_prior, with_deformation
from m2m.translate.displacements import displacement_of

SPACING_MM = 5.0
SHAPE = (36, 44, 36)
FEW = Deformation(iterations=(30, 20), radius=2)
ATLAS, MEAN = (FAMILIES[name].SECTION for name in ("atlas", "mean"))
FA = MODALITIES["fa"]


def grid(tilt_deg=(0, 0, 0)):
    """Affine of a grid around the template's centre, with its axes tilted."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix() * SPACING_MM
    affine[:3, 3] = np.array([0, -18, 8]) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def points(affine):
    return apply_affine(affine, np.moveaxis(np.indices(SHAPE), 0, -1))


def bend(affine, seed=0, size_mm=4.0):
    """A smooth displacement in world mm, of another size along each axis."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (3, 3))
    waves = np.sin(points(affine)[..., None, :] / 24 + phase).sum(-1) / 3
    return waves * size_mm * np.array([1.5, 1.0, 0.7])


TO_MNI = np.eye(4)
TO_MNI[:3, :3] = np.diag([1.05, 0.95, 1.02]) @ Rotation.from_euler("z", 4, degrees=True).as_matrix()
TO_MNI[:3, 3] = 2, -1, 3


def participant(affine, displacement, tissue="t1"):
    """The template as it lies in a participant whose displacement is known."""
    return resample(load_template(tissue, SPACING_MM), affine, SHAPE, TO_MNI, 1, displacement)


def pair(tilt_deg=(0, 0, 0), seed=0):
    """T1, brain and known displacement of a participant."""
    affine = grid(tilt_deg)
    known = bend(affine, seed)
    brain = Volume(participant(affine, known, "brain").data > 0.5, affine)
    t1 = participant(affine, known)
    return Volume(900 * t1.data * brain.data, affine), brain, known


@pytest.fixture(scope="module", params=[(0, 0, 0), (10, 40, 25)], ids=["upright", "oblique"])
def found(request):
    t1, brain, known = pair(request.param)
    return t1, brain, known, deformation.deform(t1, brain, TO_MNI, FEW)


def test_a_known_displacement_is_found_along_world_axes(found):
    _, brain, known, deformed = found
    inside = brain.data
    before, after = (np.linalg.norm(e, axis=-1)[inside].mean() for e in (known, known - deformed.forward))
    assert before > 2.0 and after < 0.55 * before, (before, after)
    for axis in range(3):
        assert np.corrcoef(known[inside][:, axis], deformed.forward[inside][:, axis])[0, 1] > 0.65
    assert deformed.numbers["kept"] == "deformation" and not deformed.numbers["reasons"]


def test_the_inverse_leads_back(found):
    t1, brain, _, deformed = found
    back = resample(Volume(deformed.inverse, t1.affine), t1.affine, SHAPE, None, 1, deformed.forward).data
    error = np.linalg.norm(deformed.forward + back, axis=-1)[brain.data]
    assert error.mean() < 0.15 * np.linalg.norm(deformed.forward, axis=-1)[brain.data].mean()
    assert deformed.numbers["inverse_error_mean_mm"] == pytest.approx(error.mean(), abs=1e-3)


def test_the_template_is_more_like_the_t1_after_it(found):
    *_, deformed = found
    assert deformed.numbers["mi_deformed"] > deformed.numbers["mi_affine"] + 0.1
    assert 0 < deformed.numbers["jacobian_min"] < 1 < deformed.numbers["jacobian_p99"]


def test_jacobians_of_a_linear_displacement_are_its_matrix_on_an_oblique_grid():
    affine = grid((10, 20, 30))
    matrix = np.array([[0.1, 0.02, 0], [0, -0.2, 0.05], [0.03, 0, 0.15]])
    expected = np.broadcast_to(np.eye(3) + matrix, (*SHAPE, 3, 3))
    np.testing.assert_allclose(jacobians(points(affine) @ matrix.T, affine), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: -2.0 * (p - p.mean((0, 1, 2))), "folded"),
        (lambda p: np.broadcast_to([15.0, 0, 0], p.shape), "mutual information"),
    ],
    ids=["folded", "less alike"],
)
def test_a_deformation_that_folds_or_lowers_the_similarity_is_replaced_by_the_affine(monkeypatch, change, reason):
    affine = grid()
    t1, brain = participant(affine, np.zeros((*SHAPE, 3))), participant(affine, np.zeros((*SHAPE, 3)), "brain")
    field = change(points(affine))
    monkeypatch.setattr(deformation, "register", lambda *_: (field, -field))
    kept = deformation.deform(t1, brain, TO_MNI, FEW)
    assert not kept.forward.any() and not kept.inverse.any()
    assert kept.numbers["kept"] == "affine" and any(reason in text for text in kept.numbers["reasons"])
    assert kept.numbers["folded_share"] == (1.0 if reason == "folded" else 0.0)


def turning(affine, degrees=20):
    """A rotation about the grid's centre, as a transform and as a displacement."""
    centre = points(affine).mean((0, 1, 2))
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler("zx", [degrees, 10], degrees=True).as_matrix()
    rotation[:3, 3] = centre - rotation[:3, :3] @ centre
    return rotation, apply_affine(rotation, points(affine)) - points(affine)


def tensors(affine, rng):
    """Tensors in a ball around the grid's centre, along its axes, and their mask."""
    distance = np.linalg.norm(points(affine) - points(affine).mean((0, 1, 2)), axis=-1)
    data = from_matrix(np.diag([3.0, 1.0, 0.3])) + 0.3 * rng.standard_normal(6)
    return Volume(np.broadcast_to(data, (*SHAPE, 6)) * np.cos(distance / 60)[..., None], affine), distance < 55


def test_tensors_follow_a_local_rotation_as_they_follow_an_affine_one(rng):
    affine = grid((5, 10, 20))
    rotation, displacement = turning(affine)
    inverse = apply_affine(np.linalg.inv(rotation), points(affine)) - points(affine)
    image, mask = tensors(affine, rng)
    by_affine = fit_mean_map([MeasuredMap(image, mask, rotation)], SPACING_MM)
    by_field = fit_mean_map([MeasuredMap(image, mask, np.eye(4), Volume(inverse, affine))], SPACING_MM)
    near = np.abs(by_affine["mean"]).sum(-1) > 0
    middle = np.linalg.norm(
        apply_affine(by_affine["affine"], np.argwhere(near)) - points(affine).mean((0, 1, 2)), axis=1
    )
    chosen = tuple(np.argwhere(near)[middle < 35].T)
    np.testing.assert_allclose(by_field["mean"][chosen], by_affine["mean"][chosen], atol=0.02)
    unrotated = fit_mean_map([MeasuredMap(image, mask, np.eye(4))], SPACING_MM)["mean"]
    assert np.abs(unrotated[chosen] - by_affine["mean"][chosen]).mean() > 0.1, "the rotation matters"
    predicted = [
        predict_mean_map(by_affine, affine, SHAPE, to_mni, field)
        for to_mni, field in ((rotation, None), (np.eye(4), displacement))
    ]
    for one, other in ((p.image, q.image) for p, q in [predicted]):
        np.testing.assert_allclose(other[mask], one[mask], atol=0.02)
    deviations = [p.sds["subjects"][mask] for p in predicted]
    np.testing.assert_allclose(deviations[1], deviations[0], atol=0.02)


def test_the_principal_direction_turns_with_the_displacement():
    affine = grid((0, 0, 30))
    rotation, displacement = turning(affine)
    found = local_rotations(displacement, affine, np.eye(4))
    np.testing.assert_allclose(
        found @ [[[rotation[:3, 0]]]][0][0][0], np.broadcast_to([1, 0, 0], (*SHAPE, 3)), atol=1e-6
    )


@pytest.mark.parametrize("plane", PLANES)
def test_places_of_a_rotation_are_those_of_the_same_affine(plane):
    affine = grid((5, 10, 20))
    rotation, displacement = turning(affine)
    places = template_places(displacement, affine, TO_MNI, directed=True)
    found = slices_at(places, plane, np.array([8, 20]))
    expected = positions(TO_MNI @ rotation @ affine, SHAPE, plane, np.array([8, 20]))
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-3)
    axes = nearest_rotation(TO_MNI[:3, :3] @ rotation[:3, :3]) @ voxel_axes(affine)
    np.testing.assert_allclose(found[0, 3:, 4, 6].reshape(3, 3), axes, atol=1e-5)
    assert template_places(displacement, affine, TO_MNI, directed=False).shape == (*SHAPE, 3)


def test_a_deformed_prior_of_tensors_is_the_atlas_in_every_orientation_and_mirrored():
    affine, template = grid((5, 10, 20)), load_template("brain", SPACING_MM)
    displacement = turning(affine)[1] + bend(affine)
    # Left and right are alike, so that the mirrored head has the same.
    values = np.float32([3.0, 0, 0, 1.0, 0.4, 0.3]) * np.ones((*template.shape, 1), np.float32)
    atlas = {"mean": values, "sd": values, "affine": template.affine}
    expected = predict_mean_map(atlas, affine, SHAPE, TO_MNI, displacement).image
    inputs = SliceInputs(1, prior=as_prior(values, SPACING_MM, "dti"))
    run = torch_engine(OctaveTranslator(inputs, (6, 8), out_channels=6, residual=True))  # as training begins
    views = {"context": 1, "planes": PLANES, "batch_size": 16, "mirror": MODALITIES["dti"].mirror}
    views["places"] = template_places(displacement, affine, TO_MNI, directed=True)
    found = translate_volume(run, np.ones(SHAPE, np.float32), TO_MNI @ affine, **views)
    middle = np.linalg.norm(points(affine) - points(affine).mean((0, 1, 2)), axis=-1) < 45
    np.testing.assert_allclose(found.image[middle], expected[middle], atol=1e-4)
    assert found.sds["views"][middle].max() < 1e-4, "every view has the same"
    unturned = predict_mean_map(atlas, affine, SHAPE, TO_MNI).image
    assert np.abs(unturned - expected)[middle].mean() > 0.1, "the deformation matters"


def images(seed, measured=True):
    """A participant whose FA is the template's white matter, deformed as the T1 is."""
    t1, brain, known = pair(seed=seed)
    fa = Volume(participant(t1.affine, known, "wm").data * brain.data, t1.affine)
    found = deformation.deform(t1, brain, TO_MNI, FEW) if measured else None
    return TrainingImages(
        affine=t1.affine,
        shape=SHAPE,
        to_mni=TO_MNI,
        source=lambda: t1.data,
        low_res=lambda: None,
        displacement=lambda: found.forward,
        inverse_displacement=lambda: Volume(found.inverse, t1.affine),
        target=lambda: fa,
        mask=lambda: brain.data,
    )


@pytest.fixture(scope="module")
def cohort():
    return [images(seed) for seed in range(3)]


def error_of(family, tensors, one):
    inside = one.mask()
    return float(np.abs(family.predict(tensors, one).image - one.target().data)[inside].mean())


def test_the_atlas_predicts_a_new_participant_better_than_the_affine_mean(cohort):
    *training, new = cohort
    errors = {}
    for family, options in ((atlas_model, ATLAS()), (mean_model, MEAN())):
        tensors = family.fit(options, training, SPACING_MM, FA)
        family.require_tensors(tensors, 1)
        errors[family.__name__] = error_of(family, tensors, new)
    atlas, mean = errors.values()
    assert atlas < 0.75 * mean, errors


def write_map(path, factor=1.0, **changes):
    wm = load_template("wm", 2.0)
    data = (wm.data + 0.05) * (load_template("brain", 2.0).data > 0) * factor
    save(path, Volume(changes.get("data", data), changes.get("affine", wm.affine)))
    return path


def test_a_given_map_is_deformed_and_its_deviation_is_that_from_participants(cohort, tmp_path):
    *training, new = cohort
    path = write_map(tmp_path / "fa.nii.gz", 0.8)
    tensors = atlas_model.fit(ATLAS(map=path), training, SPACING_MM, FA)
    own = atlas_model.fit(ATLAS(), training, SPACING_MM, FA)
    expected = resample(load(path), own["affine"], own["mean"].shape).data
    brain = load_template("brain", SPACING_MM).data > 0
    assert np.corrcoef(tensors["mean"][brain], expected[brain])[0, 1] > 0.96
    square = own["sd"] ** 2 + (own["mean"] - tensors["mean"]) ** 2
    np.testing.assert_allclose(tensors["sd"] ** 2, square, atol=1e-5)
    assert np.corrcoef(atlas_model.predict(tensors, new).image[new.mask()], new.target().data[new.mask()])[0, 1] > 0.65


def test_a_given_map_is_scaled_as_the_target(tmp_path):
    path = write_map(tmp_path / "md.nii.gz", 1e-3)
    scaled = reference_map.given_map(path, SPACING_MM, MODALITIES["md"])
    assert scaled.max() == pytest.approx(1.0 / 3, abs=0.06)


def test_a_given_map_that_cannot_be_used_is_refused_with_file_value_and_remedy(tmp_path):
    good = load(write_map(tmp_path / "fa.nii.gz", 0.8))
    shifted = good.affine.copy()
    shifted[:3, 3] += 150
    files = {
        "is not FA": (write_map(tmp_path / "large.nii.gz", 800.0), FA),
        "does not cover": (write_map(tmp_path / "shifted.nii.gz", 0.8, affine=shifted), FA),
        "three-dimensional": (write_map(tmp_path / "two.nii.gz", data=np.stack([good.data] * 2, -1)), FA),
        "scalar maps only": (tmp_path / "fa.nii.gz", MODALITIES["tdi"]),
    }
    for problem, (path, target) in files.items():
        with pytest.raises(DataError, match=problem) as caught:
            reference_map.given_map(path, SPACING_MM, target)
        assert str(caught.value.file) == str(path) and caught.value.value is not None and caught.value.remedy


def test_a_given_map_for_tensors_or_density_stops_the_configuration():
    models = {"atlas": {"family": "atlas", "map": "fa.nii.gz"}}
    for target, nature in (("tdi", "density"), ("dti", "tensor")):
        tasks = {"one": {"target": target, "models": ["atlas"]}}
        with pytest.raises(ValidationError, match=f"tasks.one: .*scalar maps.* {nature}"):
            Config.model_validate({"dataset": "d", "models": models, "tasks": tasks})
    assert Config.model_validate({"dataset": "d", "models": models, "tasks": {"one": {"models": ["atlas"]}}})


def write_anat(root, unit, t1, brain):
    """Files of the stage anat, as far as they are used."""
    at = files_of(unit, root)
    save(at("t1w"), t1)
    save(at("brain"), brain, dtype=np.uint8)
    write_json(at("anat-status"), {"unit": unit, "status": "ok", "grid_to_mni": TO_MNI.tolist(), "excluded": []})
    return at


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    t1, brain, _ = pair((0, 25, 15))
    at = write_anat(root, "sub-01", t1, brain)
    deformation.main(root, "sub-01", options=FEW.model_dump_json())
    return root, at, t1, brain


def test_the_stage_writes_both_fields_with_their_convention_and_a_figure(stage):
    _, at, t1, _ = stage
    status = read_json(at("deform-status"))
    assert status["status"] == "ok" and status["kept"] == "deformation" and status["options"]["radius"] == 2
    for kind in ("deformation", "inverse-deformation"):
        field = load(at(kind))
        assert field.data.shape == (*SHAPE, 3) and np.allclose(field.affine, t1.affine) and field.data.any()
        sidecar = read_json(str(at(kind)).replace(".nii.gz", ".json"))
        assert sidecar["Units"] == "mm" and "RAS+" in sidecar["Description"] and "grid_to_mni" in sidecar["Direction"]
    assert at("deformation").name == "sub-01_from-T1w_to-MNI152NLin2009aSym_mode-points_xfm.nii.gz"
    assert at("deform-figure").stat().st_size > 5000


def test_a_translation_by_hand_computes_the_deformation_of_the_workflow(stage):
    _, at, *_ = stage
    t1, brain = load(at("t1w")), load(at("brain"))
    options = FEW.model_dump(mode="json")
    record = {"model": "a", "family": "atlas", "options": {}, "source": "t1", "target": "fa", "deformation": options}
    by_hand = displacement_of(t1, Volume(brain.data > 0, brain.affine), TO_MNI, record)
    np.testing.assert_array_equal(by_hand, displacement_of(t1, brain, TO_MNI, record, at("deformation")))
    assert displacement_of(t1, brain, TO_MNI, record | {"family": "mean"}, at("deformation")) is None
    with pytest.raises(DataError, match="source is FA") as caught:
        displacement_of(t1, brain, TO_MNI, record | {"source": "fa"})
    assert "workflow" in caught.value.remedy
    with pytest.raises(DataError, match="no field of displacements"):
        displacement_of(t1, brain, TO_MNI, record, at("t1w"))


def test_a_failed_anat_fails_the_stage_with_empty_files(tmp_path):
    at = files_of("sub-02", tmp_path)
    finding = {"problem": "no brain is found in the T1", "file": "t1", "value": "", "remedy": "look"}
    write_json(at("anat-status"), {"unit": "sub-02", "stage": "anat", "status": "failed", "finding": finding})
    deformation.main(tmp_path, "sub-02", options="{}")
    assert read_json(at("deform-status"))["finding"]["problem"].startswith("stage anat failed")
    assert at("deformation").stat().st_size == 0 == at("inverse-deformation").stat().st_size


def test_subjects_without_deformation_are_left_out_or_named(tmp_path):
    units = ("sub-01", "sub-02", "sub-03")
    subjects = {"train": [SimpleNamespace(unit=u, record={"sha256": "a"}) for u in units], "validation": []}
    options = Deformation().model_dump(mode="json")
    for unit in units[:2]:
        status = {"status": "ok", "options": options, "sha256": unit}
        write_json(files_of(unit, tmp_path)("deform-status"), status)
    with pytest.raises(DataError, match="no deformation") as caught:
        with_deformation(subjects, {"failed": 1}, tmp_path)
    assert "sub-03" in caught.value.remedy
    write_json(files_of("sub-03", tmp_path)("deform-status"), {"status": "failed"})
    for subject in subjects["train"]:
        subject.record["sha256"] = "a"
    kept, skipped, found = with_deformation(subjects, {"failed": 1}, tmp_path)
    assert [s.unit for s in kept["train"]] == list(units[:2]) and skipped == {"failed": 2} and found == options
    assert kept["train"][0].record["sha256"] == "asub-01", "another field is another training set"
    other = {"status": "ok", "options": options | {"radius": 2}, "sha256": "c"}
    write_json(files_of("sub-03", tmp_path)("deform-status"), other)
    with pytest.raises(DataError, match="sub-03 was made with other options"):
        with_deformation(subjects, {"failed": 0}, tmp_path)
