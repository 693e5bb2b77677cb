"""A further map is a record and its kinds of file: from the tensor fit to what is compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
import report_tree as tree
import torch
from fibre_fields import gradients, signal
from line_model import SHAPE, run, write_line
from nibabel.affines import apply_affine

from m2m.diffusion.dti import fit_tensor
from m2m.diffusion.tensors import from_matrix
from m2m.evaluate.measured_maps import compared
from m2m.io import bids, modalities
from m2m.io.bids import unit_files, unit_of, unit_path
from m2m.io.files import read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.io.volume import Volume, load, save
from m2m.options import Config, Evaluation, Grid, Task
from m2m.options.downstream_options import DESCRIBED
from m2m.structural import coregistration, slices
from m2m.train.dataset import SliceBatches, find_subjects

AFFINE = np.diag([6.0, 6, 6, 1])
AFFINE[:3, 3] = -60
WATER_MM2_PER_S = 3e-3
STILL = Grid(registration="none", fa_mean=(0, 1)).model_dump_json()


@pytest.fixture
def toy(monkeypatch):
    """Radial diffusivity, added as in the documentation: its record, and its kinds of files."""
    record = replace(
        MODALITIES["md"],
        title="RD",
        channels=("rd",),
        kind="rd",
        native="dwi-rd",
        description="Radial diffusivity, mm2/s",
    )
    monkeypatch.setitem(MODALITIES, "rd", record)
    for kind, name in {"rd": None, "synth-rd": "synth", "synthsd-rd": "synthsd"}.items():
        monkeypatch.setitem(bids.KINDS, kind, ("dwi", bids._map("rd", "T1w", name)))
    return record


@pytest.fixture
def subject(tmp_path, rng):
    """Maps of a participant whose T1 and DWI spaces are identical; MD and RD are constant."""
    shape = (20, 22, 18)
    places = apply_affine(AFFINE, np.moveaxis(np.indices(shape), 0, -1))
    centre = apply_affine(AFFINE, (np.array(shape) - 1) / 2)
    brain = np.linalg.norm(places - centre, axis=-1) < 45
    t1, fa = rng.normal(600, 90, shape), rng.uniform(0.1, 0.6, shape)
    files = unit_files(tmp_path, unit_of("sub-01"))
    maps = {
        "t1w": t1 * brain,
        "brain": brain,
        "wm": brain,
        "dwi-fa": fa,
        "b0": t1,
        "dwi-v1": np.broadcast_to([1.0, 0, 0], (*shape, 3)),
        "dwi-mask": brain,
        "dwi-md": np.full(shape, 0.8e-3),
        "dwi-rd": np.full(shape, 0.6e-3),
    }
    for kind, data in maps.items():
        save(files[kind], Volume(np.asarray(data, np.float32), AFFINE))
    write_json(files["anat-status"], {"status": "ok", "excluded": [], "grid_to_mni": np.eye(4).tolist()})
    write_json(files["dti-status"], {"status": "ok", "excluded": []})
    return files


def test_md_of_isotropic_voxels_is_their_diffusivity():
    bvals, bvecs = gradients(30, 1000.0)
    diffusivities = np.array([0.3, 0.7, 1.2, 3.0]) * 1e-3
    six = from_matrix(np.eye(3) * diffusivities[:, None, None])[:, None, None]
    maps = fit_tensor(signal(six, bvals, bvecs), bvals, bvecs, np.ones((4, 1, 1), bool))
    np.testing.assert_allclose(maps.md[:, 0, 0], diffusivities, rtol=1e-3)
    np.testing.assert_allclose(maps.fa, 0, atol=2e-3)


@pytest.mark.parametrize(("name", "value"), [("md", 0.8e-3), ("rd", 0.6e-3)])
def test_a_constant_map_stays_constant_on_the_grid(toy, subject, tmp_path, name, value):
    coregistration.main(tmp_path, "sub-01", options=STILL, maps=["fa", name])
    assert read_json(subject["grid-status"])["status"] == "ok"
    target = load(subject["target-mask"]).data > 0
    data = load(unit_path(tmp_path, name, "sub-01", "sub-01")).data
    np.testing.assert_allclose(data[target], value, rtol=1e-5)
    assert not data[~target].any() and 0 < target.sum() < target.size


def test_a_map_that_no_task_needs_is_not_made(subject, tmp_path):
    coregistration.main(tmp_path, "sub-01", options=STILL, maps=["fa"])
    slices.main(tmp_path, "sub-01", options="{}", maps=["fa"])
    assert not subject["md"].exists()
    record = read_json(tmp_path / "slices/sub-01/sub-01_slices.json")
    assert record["channels"] == ["t1", "fa", "brain", "target_mask"]


def test_a_new_modality_is_resampled_sliced_trained_on_and_compared(toy, subject, tmp_path):
    coregistration.main(tmp_path, "sub-01", options=STILL, maps=["fa", "rd"])
    slices.main(tmp_path, "sub-01", options="{}", maps=["fa", "rd"])
    record = read_json(tmp_path / "slices/sub-01/sub-01_slices.json")
    assert record["channels"] == ["t1", "fa", "rd", "brain", "target_mask"]
    subjects, _ = find_subjects(tmp_path / "slices", {"sub-01": "train"}, "t1", "rd")
    batches = SliceBatches(subjects["train"], "t1", "rd", context=1, planes=("axial",), batch_size=2, seed=1)
    batch = batches[0]
    inside = batch["target"][batch["mask"] > 0.5]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.2), atol=1e-3, rtol=0)
    one = compared("rd", load(unit_path(tmp_path, "rd", "sub-01", "sub-01")).data)
    mean_um2_per_ms = one.regional[one.image > 0].mean()
    assert one.image.max() == pytest.approx(0.2, abs=1e-5)
    assert mean_um2_per_ms == pytest.approx(0.6, rel=1e-4)
    path = unit_path(tmp_path / "synthetic/t1-rd/mean", toy.synthetic, "sub-01", "sub-01")
    assert path.endswith("sub-01_space-T1w_desc-synth_model-tensor_param-rd_dwimap.nii.gz")


def test_a_study_asks_for_a_new_record_by_name(toy):
    models = {"mean": {"family": "mean"}}
    task = {"target": "rd", "models": ["mean"]}
    config = Config.model_validate({"dataset": "x", "models": models, "tasks": {"t1-rd": task}})
    assert modalities.on_grid(config.modalities) == ["fa", "rd"]
    assert "rd" in modalities.targets() and "rd" not in modalities.sources()
    with pytest.raises(ValueError, match="'adc' is not one of fa, md, tdi, dti, rd"):
        Task(target="adc")


@pytest.mark.parametrize(
    ("used", "resampled", "cut"),
    [
        ({"t1", "fa"}, ["fa"], ["fa"]),
        ({"t1", "md"}, ["fa", "md"], ["fa", "md"]),
        ({"t1", "tdi"}, ["fa", "tdi"], ["fa", "tdi"]),
        ({"t1", "dti"}, ["fa", "tdi", "dti"], ["fa", "dti"]),
    ],
)
def test_a_study_resamples_what_its_tasks_need_and_tensors_with_streamlines(used, resampled, cut):
    assert modalities.on_grid(used) == resampled
    assert modalities.in_slices(used) == cut


def test_scaled_md_of_free_water_is_one_and_scaling_is_invertible(rng):
    md = MODALITIES["md"]
    assert md.scale(np.float32([0, WATER_MM2_PER_S])).tolist() == [0, 1]
    values = rng.uniform(0, 4e-3, 1000).astype(np.float32)
    np.testing.assert_allclose(md.unscale(md.scale(values)), values, rtol=3e-7)


def test_predicted_md_is_never_negative_and_has_no_upper_bound(tmp_path, rng):
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    t1 = Volume(np.where(brain, rng.uniform(100, 900, SHAPE), 0).astype(np.float32), AFFINE / 2)
    t1.affine[3, 3] = 1
    paths = [tmp_path / name for name in ("t1.nii.gz", "brain.nii.gz", "anat.json")]
    save(paths[0], t1)
    save(paths[1], Volume(brain, t1.affine), dtype=np.uint8)
    write_json(paths[2], {"stage": "anat", "status": "ok", "grid_to_mni": np.eye(4).tolist()})
    weights = write_line(tmp_path, intercept=-0.5, slope=2.0, target="md")
    out = tmp_path / "md.nii.gz"
    result = run(
        "translate", paths[0], "--brain", paths[1], "--anat-status", paths[2], "--weights", weights, "--out", out
    )
    assert result.exit_code == 0, result.output
    inside = load(out).data[brain]
    assert inside.min() == 0 and inside.max() == pytest.approx(1.5 * WATER_MM2_PER_S, rel=1e-5)
    assert "MD becomes MD / 3e-3 mm2/s." in (tmp_path / "card.md").read_text()
    about = json.loads((tmp_path / "md.json").read_text())
    assert about["Description"].startswith("Mean diffusivity, mm2/s; predicted from T1")


@pytest.fixture(scope="module")
def compared_md(tmp_path_factory):
    """Two models of MD, evaluated, with figures and a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tree.TASKS, "t1-md", Task(target="md", models=tree.MODELS[:2]))
        root = tree.build(tmp_path_factory.mktemp("md") / "ds", tasks=("t1-md",))
        tree.run_evaluation(root, task="t1-md")
        page = tree.write_page(root, tasks=("t1-md",))
        yield root, page


def test_md_is_compared_on_its_scale_and_regions_in_um2_per_ms(compared_md):
    root, _ = compared_md
    unit, where = "sub-07", root / "evaluate/t1-md/macro2micro"
    reference, brain = (tree.load(unit_path(root, kind, unit, unit)) for kind in ("md", "target-mask"))
    synthetic = tree.load(unit_path(root / "synthetic/t1-md/macro2micro", "synth-md", unit, unit))
    rows = {(r["unit"], r["region"]): r for r in read_table(where / "metrics.tsv")}
    error = np.abs(reference - synthetic)[brain > 0].mean() / WATER_MM2_PER_S
    assert float(rows[unit, "brain"]["mae"]) == pytest.approx(error, rel=1e-3)
    assert rows[unit, "brain"]["dice"] is rows[unit, "wm"]["angle_deg"] is None
    rois = {r["roi"]: r for r in read_table(where / "rois.tsv") if r["unit"] == unit}
    mean = 1e3 * reference[tree.bundles() == 1].mean()
    assert float(rois["genu"]["reference"]) == pytest.approx(mean, rel=1e-4) and 0.5 < mean < 1.5


def test_the_page_of_md_states_what_is_compared_and_shows_the_figures_of_a_scalar_map(compared_md):
    _, page = compared_md
    assert "T1 to MD" in page and "means of regions are in µm²/ms" in page
    assert "sharp without being accurate" in page
    assert "Streamlines by bundle" not in page and "Quality against time" not in page


def test_features_are_computed_of_every_map_with_one_value_per_voxel():
    assert DESCRIBED == ["fa", "md", "tdi"]
    assert Evaluation().truth is None and MODALITIES["md"].truth == ""
