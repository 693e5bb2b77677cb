"""Label correction: the identity at initialisation, smooth, and accurate for known displacements."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_cohort import small_model, write_cohort
from small_families import ALONE, small
from workflow import CHECKOUT

from m2m import options
from m2m.io.errors import DataError
from m2m.models.building import (
    build_corrected_labels,
    build_objective,
    load_correction,
    load_network,
)
from m2m.networks.correction import LabelCorrection, area_change, inverse, warp
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.corrected_labels import CorrectedLabels
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options import Task, Trained, load_config
from m2m.options.families.cyclegan import CycleGan
from m2m.options.families.fgdl_cms import FgdlCms
from m2m.options.families.macro2micro import Macro2Micro
from m2m.options.families.macro2micro_2023 import Published2023
from m2m.options.families.pix2pix import Pix2Pix
from m2m.train.checkpoint import Checkpoints
from m2m.train.dataset import Batch, find_subjects
from m2m.train.launch import make_fabric
from m2m.train.loop import fit_network

SMALL = {"widths": [4, 8], "smoothness": 0.5}


def waves(rows: int = 40, columns: int = 48) -> torch.Tensor:
    """A smooth image (1, 1, rows, columns)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.sin(y / 5) + torch.cos(x / 6))[None, None]


def test_the_published_correction_has_its_number_of_parameters():
    widths = load_config(CHECKOUT / "config.paper.yaml").models["fgdl-cms"].correct_labels.widths
    network = LabelCorrection(1, widths)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.06e6, rel=0.05)


@pytest.mark.parametrize("size", [(32, 40), (61, 47)])
def test_a_correction_starts_at_the_identity_and_all_parameters_have_gradient(size):
    torch.manual_seed(0)
    network = LabelCorrection(2, (4, 6, 8))
    target = torch.rand(2, 2, *size)
    target_and_source = torch.cat([target, torch.rand(2, 1, *size)], 1)[:, None]
    displacement = network(target_and_source, torch.tensor([0, 2]))
    assert displacement.shape == (2, 2, *size)
    assert 0 < displacement.abs().max() < 1e-3
    torch.testing.assert_close(warp(target, displacement), target, atol=1e-3, rtol=0)
    displacement.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_correction_shifts_along_the_allowed_axes_only():
    """The y axis is along the rows of axial and the columns of sagittal slices, not in coronal ones."""
    network = LabelCorrection(1, (4, 6), along=("y",))
    torch.nn.init.ones_(network.head.bias)
    found = network(torch.rand(3, 1, 2, 8, 8), torch.arange(3)).abs().amax((2, 3)) > 0.5
    assert found.tolist() == [[True, False], [False, False], [False, True]]


def test_warping_samples_at_the_pixel_plus_its_displacement():
    image = torch.rand(1, 2, 9, 11)
    torch.testing.assert_close(warp(image, torch.zeros(1, 2, 9, 11)), image)
    shift = torch.zeros(1, 2, 9, 11)
    shift[:, 0], shift[:, 1] = 2, -1
    warped = warp(image, shift)
    torch.testing.assert_close(warped[..., :-2, 1:], image[..., 2:, :-1])
    # Beyond the border, the value at the border is used.
    torch.testing.assert_close(warped[..., -1, 1:], image[..., -1, :-1])
    half = warp(image, torch.full((1, 2, 9, 11), 0.5))
    four = (image[..., a : a + 8, b : b + 10] for a in (0, 1) for b in (0, 1))
    torch.testing.assert_close(half[..., :-1, :-1], sum(four) / 4)


def test_the_inverse_inverts_a_smooth_misalignment():
    misalignment = torch.cat([2 * waves(), -1.5 * waves().flip(2)], 1)
    displacement = inverse(misalignment)
    residual = displacement + warp(misalignment, displacement)
    assert residual[..., 6:-6, 6:-6].abs().max() < 0.05 < 1 < displacement.abs().max()


def test_area_and_roughness_are_those_of_a_linear_displacement():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    displacement = torch.stack([0.5 * y + 0.25 * x, -0.125 * x])[None]
    torch.testing.assert_close(area_change(displacement), torch.full((1, 5, 6), 1.5 * 0.875))
    expected = (0.5**2 + 0) / 2 + (0.25**2 + 0.125**2) / 2
    assert losses.roughness(displacement).item() == pytest.approx(expected)
    folded = torch.stack([-1.5 * y, 0 * x])[None]
    assert (area_change(folded) < 0).all()


def corrected(model: Trained | None = None) -> tuple[Objective, CorrectedLabels]:
    torch.manual_seed(0)
    model = model or Macro2Micro.model_validate(
        {
            "correct_labels": SMALL,
            "losses": {"l1_low_frequency": 0, "l1_high_frequency": 0},
            "discriminators": {"width": 4, "crops": 2, "crop_size": 8},
        }
    )
    return build_objective(model), build_corrected_labels(model)


def generator_terms(objective: Objective, labels: CorrectedLabels, batch: Batch, image) -> Terms:
    """Terms of a generator step, as in the training loop."""
    output, corrected_batch = Translation(image), labels(batch, 0)
    terms = objective.generator_terms(StepContext(corrected_batch.batch, output, None))
    return terms | labels.terms(batch, output, corrected_batch.misalignment)


def batch_of(target: torch.Tensor, source: torch.Tensor | None = None) -> Batch:
    source = torch.rand_like(target) if source is None else source
    mask = torch.zeros_like(target)
    mask[..., 4:-4, 4:-4] = 1
    plane = torch.zeros(len(target), dtype=torch.long)
    target_and_source = torch.cat([target * mask, source], 1)[:, None]
    return {"source": source, "target": target, "mask": mask, "plane": plane, "correction_input": target_and_source}


def test_at_initialisation_the_terms_are_those_of_uncorrected_labels():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    image = torch.rand(2, 1, 32, 40)
    plain = build_objective(Macro2Micro(losses=options.Losses(l1_low_frequency=0, l1_high_frequency=0)))
    names = ("l1", "ms_ssim")
    found = generator_terms(*corrected(), batch, image)
    expected = plain.generator_terms(StepContext(batch, Translation(image), None))
    for name in names:
        assert found[name].item() == pytest.approx(expected[name].item(), abs=1e-3)
    assert found["smoothness"].item() < 1e-6 and "smoothness" not in expected


def test_the_correction_has_gradient_in_the_generator_step_only():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    (objective, labels), image = corrected(), torch.rand(2, 1, 32, 40, requires_grad=True)
    discriminators = list(objective.discriminators.parameters())
    context = StepContext(labels(batch, 0).batch, Translation(image), None)
    sum(objective.discriminator_terms(context).values()).backward()
    assert all(p.grad is None for p in labels.correction.parameters())
    assert all(p.grad is not None for p in discriminators)
    objective.zero_grad()
    sum(generator_terms(objective, labels, batch, image).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in labels.correction.parameters())
    assert all(p.grad is None for p in discriminators)
    assert image.grad is not None
    assert not objective.helpers


def test_targets_are_corrected_from_the_configured_step_on():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    with torch.random.fork_rng():
        _, labels = corrected(correction_only(start=3))
    torch.nn.init.constant_(labels.correction.head.bias, 2.0)
    unchanged = [torch.equal(labels(batch, step).batch["mask"], batch["mask"]) for step in range(4)]
    assert unchanged == [True, True, False, False]
    assert all(labels(batch, step).misalignment.requires_grad for step in range(4))
    frozen = CorrectedLabels(labels.correction, learned=False, start=3)
    warped = frozen(batch, 0)
    assert not torch.equal(warped.batch["mask"], batch["mask"])
    assert not warped.misalignment.requires_grad
    assert frozen.terms(batch, Translation(batch["target"]), warped.misalignment) == {}


def correction_only(**chosen) -> Macro2Micro:
    """A model with a label correction and few other terms."""
    terms = ("l1_low_frequency", "l1_high_frequency", "ms_ssim", "adversarial", "patch_adversarial")
    correction = {"widths": [8, 8, 8], "smoothness": 0.1, **chosen}
    return Macro2Micro.model_validate({"correct_labels": correction, "losses": dict.fromkeys(terms, 0)})


def learn(objective: Objective, labels: CorrectedLabels, batches: Iterable[Batch], image: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(labels.correction.parameters(), 3e-3)
    for batch in batches:
        optimizer.zero_grad()
        sum(generator_terms(objective, labels, batch, image).values()).backward()
        optimizer.step()


def test_a_known_shift_is_found_from_the_translation_alone():
    """The target is shifted by 1.5 pixels; with a correct translation, the correction learns the shift."""
    image = waves()
    shift = torch.zeros(1, 2, 40, 48)
    shift[:, 0] = -1.5
    batch = batch_of(warp(image, shift), image)
    objective, labels = corrected(correction_only())
    learn(objective, labels, (batch for _ in range(150)), image)
    with torch.no_grad():
        found = inverse(labels.correction(batch["correction_input"], batch["plane"]))
    inside = found[..., 8:-8, 8:-8]
    assert inside[:, 0].mean() == pytest.approx(1.5, abs=0.2)
    assert inside[:, 1].abs().mean() < 0.2


def test_noise_shifts_no_label():
    """Interpolation reduces the noise of a label, without better alignment.

    Over seeds, shifts of 0.02 to 0.13 pixels are found; 0.60 to 0.65 if the terms warp the label.
    """
    image = waves()
    objective, labels = corrected(correction_only())

    def noisy() -> Batch:
        return batch_of(image + 0.3 * torch.randn_like(image), image)

    learn(objective, labels, (noisy() for _ in range(200)), image)
    with torch.no_grad():
        batch = noisy()
        found = labels.correction(batch["correction_input"], batch["plane"])
    assert found[..., 8:-8, 8:-8].mean((0, 2, 3)).norm() < 0.3


def test_without_correction_the_options_and_fingerprints_do_not_change():
    for model in (Macro2Micro(), Pix2Pix(), Published2023()):
        assert "correct_labels" not in model.model_dump(mode="json")
    for value in (True, {}, SMALL):
        model = Macro2Micro.model_validate({"correct_labels": value})
        assert model.correct_labels is not None
        assert Macro2Micro.model_validate_json(model.model_dump_json()) == model
    off = FgdlCms.model_validate({"correct_labels": False})
    assert FgdlCms.model_validate_json(off.model_dump_json()).correct_labels is None
    with pytest.raises(ValueError, match="cyclegan is trained on unpaired slices"):
        CycleGan.model_validate({"correct_labels": True})


def correctable(family: str) -> bool:
    """Whether a family can be trained with label correction."""
    try:
        small(family, correct_labels=SMALL)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("family", list(filter(correctable, ALONE)))
def test_the_correction_is_saved_with_the_network(tmp_path, family):
    parts = write_cohort(tmp_path, n_train=2, n_validation=1)
    subjects = find_subjects(tmp_path / "slices", parts, "t1", "fa")[0]
    training = small_model(steps=3).training
    plain = small(family, training=training, correct_labels=None)
    model = plain.model_copy(update={"correct_labels": options.Correction(**SMALL)})
    checkpoints = Checkpoints(tmp_path / "training", {})
    fit = fit_network(make_fabric(model.training), subjects, Task(), model, checkpoints)
    record = {"options": model.model_dump(mode="json"), "target": "fa", "model": "m"}
    load_network(fit.tensors, record)
    correction = load_correction(fit.tensors, record)
    trained = checkpoints.load()["labels"]
    for name, weight in correction.state_dict().items():
        assert torch.equal(weight, trained[f"correction.{name}"]), name
    assert np.abs(fit.tensors["correction.head.weight"]).max() > 1e-4
    with pytest.raises(DataError, match="without label correction"):
        load_correction(fit.tensors, record | {"options": plain.model_dump(mode="json")})
