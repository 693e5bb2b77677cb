"""The U-Net of volumes: stacks in training, overlapping windows in translation."""

import numpy as np
import pytest
import torch
from line_model import run
from small_cohort import SHAPE, train_arguments, write_cohort
from small_families import small
from torch import nn

from m2m.models import inference
from m2m.models.torch_engine import torch_engine
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.volume_unet import VolumeTranslator
from m2m.options.training_options import Augmentation, SliceWindow
from m2m.structural.slices import PLANES
from m2m.train.dataset import SliceBatches, find_subjects, read_slice, whole_subject
from m2m.train.history import read_rows

DEPTH = 16


def network(**options):
    torch.manual_seed(0)
    return VolumeTranslator(SliceInputs(1), (4, 4, 4, 4, 4), DEPTH, **options).eval()


def volume(n, height=30, width=37):
    source = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(1))
    return source, torch.zeros(n, dtype=torch.int64), torch.zeros(n, 3, height, width)


class Voxelwise(nn.Module):
    """Doubles each voxel, and notes the windows that it receives."""

    def __init__(self):
        super().__init__()
        self.windows = []

    def forward(self, x):
        self.windows.append(tuple(x.shape[2:]))
        return 2 * x


@pytest.mark.parametrize("n", [5, DEPTH, 45])
def test_windows_put_together_are_the_volume(n):
    translator = network()
    translator.unet = Voxelwise()
    slices = volume(n)
    image = translator(*slices).image
    torch.testing.assert_close(image, 2 * slices[0])
    assert set(translator.unet.windows) == {(DEPTH, 32, 48)}
    assert len(translator.unet.windows) == (1 if n <= DEPTH else 5)


def test_one_window_is_one_stack_and_stacks_do_not_see_each_other():
    translator, slices = network(), volume(DEPTH)
    alone = translator.of_stacks(*slices).image
    torch.testing.assert_close(translator(*slices).image, alone)
    two = [torch.cat([part, torch.flip(part, [0])]) for part in slices]
    torch.testing.assert_close(translator.of_stacks(*two).image[:DEPTH], alone)


def test_a_slice_depends_on_the_slices_around_it():
    translator, (source, *rest) = network(), volume(DEPTH)
    source.requires_grad_()
    translator(source, *rest).image[8].square().sum().backward()
    assert all(source.grad[i].abs().sum() > 0 for i in range(DEPTH))


def test_a_depth_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="got 24"):
        VolumeTranslator(SliceInputs(1), (4, 4, 4, 4, 4), 24)
    with pytest.raises(ValueError, match="multiple of 16"):
        small("unet3d", network={"depth": 24})


def test_it_cannot_have_neighbours_twice():
    model = small("unet3d")
    assert model.takes(SliceWindow(context=1, prior=True)) and not model.takes(SliceWindow(context=3))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    return find_subjects(root / "slices", write_cohort(root), "t1", "fa")[0]


def batches(subjects, depth, **changes):
    options = {"context": 1, "planes": PLANES, "batch_size": 2, "seed": 5, "flip": False, "jitter": 0.0}
    return SliceBatches(subjects["train"], "t1", "fa", stack=depth, **options | changes)


def whole(subject, plane):
    """Source slices of a participant, with zeros beyond the volume."""
    n = dict(zip(("sagittal", "coronal", "axial"), SHAPE, strict=True))[plane]
    return [read_slice(subject, plane, i, "t1", "fa", 1)["source"] for i in range(-40, n + 40)]


@pytest.mark.parametrize("depth", [1, 7, 40])
def test_a_batch_has_stacks_of_consecutive_slices(subjects, depth):
    for step in range(6):
        batch = batches(subjects, depth)[step]
        assert len(batch["source"]) == len(batch["plane"]) == 2 * depth and len(batch["unit"]) == 2
        plane, firsts = PLANES[int(batch["plane"][0])], []
        for unit, stack in zip(batch["unit"], batch["source"].split(depth), strict=True):
            (subject,) = (s for s in subjects["train"] if s.unit == unit)
            slices = np.stack(whole(subject, plane))
            firsts += [i for i in range(len(slices) - depth + 1) if np.array_equal(slices[i : i + depth], stack)]
        assert len(firsts) >= 2
        if depth < 20:  # there are enough slices with brain
            assert batch["mask"].flatten(1).any(1).all()


def test_a_stack_is_mirrored_and_changed_as_one(subjects):
    """Sagittal slices change their order; a blur across slices, and a tone, are those of the whole stack."""
    plain = batches(subjects, 7, planes=("sagittal",))
    flipped = batches(subjects, 7, planes=("sagittal",), flip=True)
    found = set()
    for step in range(8):
        for a, b in zip(plain[step]["source"].split(7), flipped[step]["source"].split(7), strict=True):
            mirrored = torch.equal(a.flip(0), b)
            assert mirrored or torch.equal(a, b)
            found.add(mirrored)
    assert found == {True, False}
    toned = batches(subjects, 7, augment=Augmentation(tone=0.5))[0]["source"].split(7)[0]
    before = batches(subjects, 7)[0]["source"].split(7)[0]
    order = before[before != 0].argsort()
    assert not torch.equal(toned, before)
    assert (toned[before != 0][order].diff() >= 0).all(), "one monotone curve for all slices of the stack"


def test_without_stacks_the_same_batches_are_drawn_as_with_stacks_of_one(subjects):
    alone, stacks = (batches(subjects, depth, flip=True, jitter=0.1)[3] for depth in (None, 1))
    assert all(torch.equal(alone[key], stacks[key]) for key in alone if key != "unit")


def test_translation_gives_the_network_all_slices_of_an_orientation_at_once(subjects):
    given = []

    class Noting(nn.Module):
        def forward(self, source, plane, position):
            given.append(len(source))
            return network()(source, plane, position)

    source = subjects["train"][0].volume("t1")
    views = inference.views_of(small("unet3d", mirror=True), "fa")
    assert views["planes"] == ("axial",) and views["whole"]
    found = inference.translate_volume(torch_engine(Noting()), source.data, np.eye(4), batch_size=4, **views)
    (batch,) = whole_subject(subjects["train"][0], "axial", "t1", "fa", 1, None)
    assert given == [len(batch["source"])] * 2
    assert found.image.shape == SHAPE and set(found.sds) == {"views"}


def test_it_learns_from_a_cohort_and_its_weights_are_those_of_the_best_step(tmp_path):
    write_cohort(tmp_path)
    training = {"steps": 8, "batch_size": 2, "validate_every": 4, "learning_rate": 3e-3, "ema_decay": 0.5}
    result = run(*train_arguments(tmp_path, tmp_path, small("unet3d", training=training), "unet3d"))
    assert result.exit_code == 0, result.output
    losses = [row["l1"] for row in read_rows(tmp_path / "metrics.jsonl") if "l1" in row]
    assert losses[-1] < losses[0]
