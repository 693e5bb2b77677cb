"""Label correction: the identity at the start, smooth, and measured against a known warp."""

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
    build_moved_labels,
    build_objective,
    load_correction,
    load_network,
)
from m2m.networks.correction import LabelCorrection, area_change, inverse, warp
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.moved_labels import MovedLabels
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
def test_a_correction_starts_at_the_identity_and_learns_everywhere(size):
    torch.manual_seed(0)
    network = LabelCorrection(2, (4, 6, 8))
    target = torch.rand(2, 2, *size)
    beside = torch.cat([target, torch.rand(2, 1, *size)], 1)[:, None]
    displacement = network(beside, torch.tensor([0, 2]))
    assert displacement.shape == (2, 2, *size)
    assert 0 < displacement.abs().max() < 1e-3
    torch.testing.assert_close(warp(target, displacement), target, atol=1e-3, rtol=0)
    displacement.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_correction_moves_along_the_axes_that_it_may():
    """y is the rows of axial slices, nothing of coronal ones, the columns of sagittal ones."""
    network = LabelCorrection(1, (4, 6), along=("y",))
    torch.nn.init.ones_(network.head.bias)
    found = network(torch.rand(3, 1, 2, 8, 8), torch.arange(3)).abs().amax((2, 3)) > 0.5
    assert found.tolist() == [[True, False], [False, False], [False, True]]


def test_warping_reads_at_the_pixel_plus_its_displacement():
    image = torch.rand(1, 2, 9, 11)
    torch.testing.assert_close(warp(image, torch.zeros(1, 2, 9, 11)), image)
    shift = torch.zeros(1, 2, 9, 11)
    shift[:, 0], shift[:, 1] = 2, -1
    moved = warp(image, shift)
    torch.testing.assert_close(moved[..., :-2, 1:], image[..., 2:, :-1])
    # Beyond the border the border's value is read.
    torch.testing.assert_close(moved[..., -1, 1:], image[..., -1, :-1])
    half = warp(image, torch.full((1, 2, 9, 11), 0.5))
    four = (image[..., a : a + 8, b : b + 10] for a in (0, 1) for b in (0, 1))
    torch.testing.assert_close(half[..., :-1, :-1], sum(four) / 4)


def test_the_inverse_undoes_a_smooth_misalignment():
    misalignment = torch.cat([2 * waves(), -1.5 * waves().flip(2)], 1)
    displacement = inverse(misalignment)
    left = displacement + warp(misalignment, displacement)
    assert left[..., 6:-6, 6:-6].abs().max() < 0.05 < 1 < displacement.abs().max()


def test_area_and_roughness_are_those_of_a_linear_displacement():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    displacement = torch.stack([0.5 * y + 0.25 * x, -0.125 * x])[None]
    torch.testing.assert_close(area_change(displacement), torch.full((1, 5, 6), 1.5 * 0.875))
    expected = (0.5**2 + 0) / 2 + (0.25**2 + 0.125**2) / 2
    assert losses.roughness(displacement).item() == pytest.approx(expected)
    folded = torch.stack([-1.5 * y, 0 * x])[None]
    assert (area_change(folded) < 0).all()


def corrected(model: Trained | None = None) -> tuple[Objective, MovedLabels]:
    torch.manual_seed(0)
    model = model or Macro2Micro.model_validate(
        {
            "correct_labels": SMALL,
            "losses": {"low": 0, "high": 0},
            "discriminators": {"width": 4, "crops": 2, "crop_size": 8},
        }
    )
    return build_objective(model), build_moved_labels(model)


def generator_terms(objective: Objective, labels: MovedLabels, batch: Batch, image) -> Terms:
    """Terms of a step of the generator's side, as the training loop has them."""
    output, moved = Translation(image), labels(batch, 0)
    terms = objective.generator_terms(StepContext(moved.batch, output, None))
    return terms | labels.terms(batch, output, moved.misalignment)


def batch_of(target: torch.Tensor, source: torch.Tensor | None = None) -> Batch:
    source = torch.rand_like(target) if source is None else source
    mask = torch.zeros_like(target)
    mask[..., 4:-4, 4:-4] = 1
    plane = torch.zeros(len(target), dtype=torch.long)
    beside = torch.cat([target * mask, source], 1)[:, None]
    return {"source": source, "target": target, "mask": mask, "plane": plane, "beside": beside}


def test_at_the_start_the_terms_are_those_of_labels_as_they_are():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    image = torch.rand(2, 1, 32, 40)
    plain = build_objective(Macro2Micro(losses=options.Losses(low=0, high=0)))
    names = ("image", "ms_ssim")
    seen = generator_terms(*corrected(), batch, image)
    expected = plain.generator_terms(StepContext(batch, Translation(image), None))
    for name in names:
        assert seen[name].item() == pytest.approx(expected[name].item(), abs=1e-3)
    assert seen["smoothness"].item() < 1e-6 and "smoothness" not in expected


def test_the_correction_learns_with_the_generator_and_the_discriminators_apart():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    (objective, labels), image = corrected(), torch.rand(2, 1, 32, 40, requires_grad=True)
    judges = [p for j in objective.discriminators.values() for p in j.parameters()]
    seen = StepContext(labels(batch, 0).batch, Translation(image), None)
    sum(objective.discriminator_terms(seen).values()).backward()
    assert all(p.grad is None for p in labels.correction.parameters())
    assert all(p.grad is not None for p in judges)
    objective.zero_grad()
    sum(generator_terms(objective, labels, batch, image).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in labels.correction.parameters())
    assert all(p.grad is None for p in judges)
    assert image.grad is not None
    assert not objective.helpers


def test_targets_are_moved_once_for_both_sides_from_the_step_that_is_asked_for():
    batch = batch_of(torch.rand(2, 1, 32, 40))
    with torch.random.fork_rng():
        _, labels = corrected(moving(start=3))
    torch.nn.init.constant_(labels.correction.head.bias, 2.0)
    still = [torch.equal(labels(batch, step).batch["mask"], batch["mask"]) for step in range(4)]
    assert still == [True, True, False, False]
    assert all(labels(batch, step).misalignment.requires_grad for step in range(4))
    frozen = MovedLabels(labels.correction, learned=False, start=3)
    moved = frozen(batch, 0)
    assert not torch.equal(moved.batch["mask"], batch["mask"])
    assert not moved.misalignment.requires_grad
    assert frozen.terms(batch, Translation(batch["target"]), moved.misalignment) == {}


def moving(**chosen) -> Macro2Micro:
    """A model of which the label correction alone is of interest."""
    terms = ("low", "high", "ms_ssim", "adversarial", "patch_adversarial")
    correction = {"widths": [8, 8, 8], "smoothness": 0.1, **chosen}
    return Macro2Micro.model_validate(
        {"correct_labels": correction, "losses": dict.fromkeys(terms, 0)}
    )


def learn(
    objective: Objective, labels: MovedLabels, batches: Iterable[Batch], image: torch.Tensor
) -> None:
    optimizer = torch.optim.Adam(labels.correction.parameters(), 3e-3)
    for batch in batches:
        optimizer.zero_grad()
        sum(generator_terms(objective, labels, batch, image).values()).backward()
        optimizer.step()


def test_a_known_shift_is_found_from_the_translation_alone():
    """The target lies 1.5 pixels too low; a right translation teaches the correction to say so."""
    image = waves()
    wrong = torch.zeros(1, 2, 40, 48)
    wrong[:, 0] = -1.5
    batch = batch_of(warp(image, wrong), image)
    objective, labels = corrected(moving())
    learn(objective, labels, (batch for _ in range(150)), image)
    with torch.no_grad():
        found = inverse(labels.correction(batch["beside"], batch["plane"]))
    inside = found[..., 8:-8, 8:-8]
    assert inside[:, 0].mean() == pytest.approx(1.5, abs=0.2)
    assert inside[:, 1].abs().mean() < 0.2


def test_noise_moves_no_label():
    """A noisy label loses noise where it is interpolated, and lies no better there.

    Over seeds 0.02 to 0.13 pixels are found; 0.60 to 0.65 where the label is moved to learn.
    """
    image = waves()
    objective, labels = corrected(moving())

    def noisy() -> Batch:
        return batch_of(image + 0.3 * torch.randn_like(image), image)

    learn(objective, labels, (noisy() for _ in range(200)), image)
    with torch.no_grad():
        batch = noisy()
        found = labels.correction(batch["beside"], batch["plane"])
    assert found[..., 8:-8, 8:-8].mean((0, 2, 3)).norm() < 0.3


def test_switching_it_off_leaves_every_fingerprint_as_it_was():
    for model in (Macro2Micro(), Pix2Pix(), Published2023()):
        assert "correct_labels" not in model.model_dump(mode="json")
    for value in (True, {}, SMALL):
        model = Macro2Micro.model_validate({"correct_labels": value})
        assert model.correct_labels is not None
        assert Macro2Micro.model_validate_json(model.model_dump_json()) == model
    off = FgdlCms.model_validate({"correct_labels": False})
    assert FgdlCms.model_validate_json(off.model_dump_json()).correct_labels is None
    with pytest.raises(ValueError, match="cyclegan never sees"):
        CycleGan.model_validate({"correct_labels": True})


def correctable(family: str) -> bool:
    """Whether a family can learn to move its labels."""
    try:
        small(family, correct_labels=SMALL)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("family", list(filter(correctable, ALONE)))
def test_the_correction_is_exported_beside_the_network(tmp_path, family):
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
    learnt = checkpoints.load()["labels"]
    for name, weight in correction.state_dict().items():
        assert torch.equal(weight, learnt[f"correction.{name}"]), name
    assert np.abs(fit.tensors["correction.head.weight"]).max() > 1e-4
    with pytest.raises(DataError, match="labels as they are"):
        load_correction(fit.tensors, record | {"options": plain.model_dump(mode="json")})
