"""Super-resolution: exact operators, a frozen synthesis, and the target of its similarity maps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_low_res import write_lower_cohort
from torch import nn

from m2m.io.errors import DataError
from m2m.models.building import build_network, build_objective, load_network
from m2m.models.inference import translate_volume
from m2m.models.prerequisites import Synthesis
from m2m.models.torch_engine import torch_engine
from m2m.networks import superres
from m2m.networks.correction import LabelCorrection
from m2m.networks.restormer import RestormerTranslator
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.superres import IncrementalModulation, Restored, SuperResolution
from m2m.objectives.objective import StepContext
from m2m.options import Task
from m2m.options.families.fgdl_cms import FgdlCms
from m2m.options.families.fgdl_sr import FgdlSr
from m2m.options.families.mean import MeanMap
from m2m.train import configuration, first_stage
from m2m.train.checkpoint import Checkpoints
from m2m.train.launch import make_fabric
from m2m.train.loop import fit_network

CMS = {
    "network": {"widths": [4, 8, 8], "heads": [1, 2, 2], "blocks": 1},
    "correct_labels": {"widths": [4, 8]},
}
SMALL = {
    "network": {"width": 4, "heads": 2, "blocks": 1},
    "discriminator": {"width": 4, "every": 2},
    "training": {"steps": 4, "batch_size": 2, "validate_every": 2, "checkpoint_every": 2},
}
LOW = {"factor": 2, "source": "map", "synthesis_task": "cms"}


def synthesis(factor: int = 2, levels: int = 3) -> Synthesis:
    torch.manual_seed(0)
    widths, heads = [4, *[8] * (levels - 1)], [1, *[2] * (levels - 1)]
    further = {"network": {"widths": widths, "heads": heads, "blocks": 1}}
    network = build_network(FgdlCms.model_validate(CMS | further))
    return Synthesis(network, LabelCorrection(1, (4, 8)), factor)


def resolver(factor: int = 2, levels: int = 3) -> SuperResolution:
    return build_network(FgdlSr.model_validate(SMALL), 1, None, synthesis(factor, levels))


def convolve_by_loops(x, weight, offset, mask):
    """The definition of Zhu et al., computed in loops over output pixels."""
    n, channels, height, width = x.shape
    per_group = weight.shape[1]
    found = np.zeros((n, len(weight), height, width))

    def sample(image, row, column):
        top, left = int(np.floor(row)), int(np.floor(column))
        value = 0.0
        for r in (top, top + 1):
            for c in (left, left + 1):
                if 0 <= r < height and 0 <= c < width:
                    value += image[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
        return value

    for b, out, row, column in np.ndindex(found.shape):
        group = out * (channels // per_group) // len(weight)
        for i in range(per_group):
            image = x[b, group * per_group + i]
            for tap in range(9):
                dy, dx = offset[b, 2 * tap : 2 * tap + 2, row, column]
                point = row + tap // 3 - 1 + dy, column + tap % 3 - 1 + dx
                found[b, out, row, column] += (
                    weight[out, i, tap // 3, tap % 3] * mask[b, tap, row, column] * sample(image, *point)
                )
    return found


def operands(groups: int, size=(6, 5)):
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(2, 4, *size, generator=draw)
    weight = torch.randn(4, 4 // groups, 3, 3, generator=draw)
    offset = 3 * torch.randn(2, 18, *size, generator=draw)
    mask = 2 * torch.rand(2, 9, *size, generator=draw)
    return x, weight, offset, mask


@pytest.mark.parametrize("groups", [1, 4])
def test_a_deformable_convolution_equals_its_definition(groups):
    arguments = operands(groups)
    found = superres.deformable_conv2d(*arguments, plain=True)
    expected = convolve_by_loops(*(part.numpy().astype(float) for part in arguments))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_operator_of_torchvision_gives_the_same(groups):
    if superres._by_torchvision is None:
        pytest.skip("torchvision is not installed, or built for another torch")
    arguments = operands(groups)
    ours, theirs = (superres.deformable_conv2d(*arguments, plain=plain) for plain in (True, False))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_deformable_convolution_starts_as_a_plain_one(groups):
    torch.manual_seed(0)
    layer, x = superres.Deformable(4, 3, groups), torch.rand(2, 4, 7, 9)
    expected = F.conv2d(x, layer.weight, padding=1, groups=groups)
    torch.testing.assert_close(layer(x, torch.rand(2, 3, 7, 9)), expected)


def test_modulation_starts_as_the_identity_and_scales_normalised_features():
    layer, x = IncrementalModulation(3), torch.rand(2, 3, 8, 8)
    similarity = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(layer(x, similarity), x, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        layer.predict[-1].bias.copy_(torch.tensor([0.5] * 3 + [0.25] * 3))
    mean, sd = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True, unbiased=False)
    expected = (x - mean) / sd * (0.5 + sd) + 0.25 + mean
    torch.testing.assert_close(layer(x, similarity), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("size", [(32, 40), (29, 38)])
def test_all_parameters_but_those_of_the_synthesis_have_gradient(factor, size):
    network = resolver(factor)
    stages = factor.bit_length()
    assert len(network.stages) == stages
    source = torch.rand(2, 2, *size)
    found = network(source, torch.zeros(2), torch.zeros(2, 3, *size))
    assert found.image.shape == found.synthesis.shape == (2, 1, *size)
    # Close to the synthesis at initialisation.
    torch.testing.assert_close(found.image, found.synthesis, atol=0.05, rtol=0)
    padded = [-(-n // 4) * 4 for n in size]
    assert [tuple(m.shape[2:]) for m in found.similarity] == [
        tuple(n // 2**i for n in padded) for i in reversed(range(stages))
    ]
    alone = network.synthesis(source[:, :1], torch.zeros(2), torch.zeros(2, 3, *size)).image
    torch.testing.assert_close(found.synthesis, alone)
    with torch.no_grad():  # away from the initial values: parameters that are 0 block the gradient of others
        for parameter in network.stages.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    image = network(source, torch.zeros(2), torch.zeros(2, 3, *size)).image
    image.square().sum().backward()
    for name, parameter in network.named_parameters():
        frozen = name.startswith("synthesis.")
        assert frozen == (parameter.grad is None), name
        assert frozen or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("factor, stages", [(2, 2), (8, 4), (16, 5)])
def test_a_factor_of_2_to_the_k_has_k_plus_1_stages(factor, stages):
    network = resolver(factor, levels=stages).eval()
    assert len(network.stages) == stages
    source = torch.rand(3, 2, 32, 48)
    further = torch.zeros(3), torch.zeros(3, 3, 32, 48)
    image = network(source, *further).image
    assert image.shape == (3, 1, 32, 48)
    one_by_one = [network(*(part[i : i + 1] for part in (source, *further))).image for i in range(3)]
    torch.testing.assert_close(image, torch.cat(one_by_one), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [3, 8])
def test_a_factor_that_does_not_fit_the_levels_of_the_synthesis_is_refused(factor):
    with pytest.raises(ValueError, match=f"factor {factor} must be a power of two"):
        resolver(factor)


def test_the_target_of_a_similarity_map_is_one_minus_the_difference_map():
    draw = torch.Generator().manual_seed(1)
    target, synthetic = (torch.rand(1, 1, 30, 40, generator=draw) for _ in range(2))
    batch = {"target": target, "mask": torch.ones_like(target), "source": torch.rand(1, 2, 30, 40)}
    terms = dict.fromkeys(("l1", "ms_ssim", "adversarial", "features"), 0)
    objective = build_objective(FgdlSr.model_validate({"losses": terms | {"similarity": 10}}))
    difference = F.pad((target - synthetic).abs(), (0, 0, 0, 2))
    expected = [1 - F.avg_pool2d(difference, 2), 1 - difference]
    found = objective.generator_terms(StepContext(batch, Restored(target, synthetic, expected), None))
    assert found["similarity"].item() == pytest.approx(0, abs=1e-10)
    wrong = [expected[0] + 0.1, expected[1]]
    found = objective.generator_terms(StepContext(batch, Restored(target, synthetic, wrong), None))
    assert found["similarity"].item() == pytest.approx(10 * 0.01 / 2, rel=0.07)


def test_the_difference_map_is_that_of_the_synthesis_and_not_of_the_image():
    target = torch.rand(1, 1, 32, 32)
    batch = {"target": target, "mask": torch.ones_like(target), "source": target}
    objective = build_objective(FgdlSr.model_validate(SMALL))
    differences = []
    objective.discriminators["discriminator"].register_forward_hook(
        lambda m, inputs, out: differences.append(inputs[1])
    )
    objective.discriminator_terms(StepContext(batch, Restored(0 * target, target - 0.25, []), None))
    assert len(differences) == 2
    for difference in differences:
        torch.testing.assert_close(difference, torch.full_like(target, 0.25))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_lower_cohort(tmp_path_factory.mktemp("cohort"))[1]


def test_frozen_weights_stay_bit_identical_and_the_others_are_trained(cohort, tmp_path):
    start, model = synthesis(), FgdlSr.model_validate(SMALL)
    before = {n: w.clone() for n, w in start.network.state_dict().items()}
    correction = {n: w.clone() for n, w in start.correction.state_dict().items()}
    task, checkpoints = Task(low_res=LOW), Checkpoints(tmp_path, {})
    fit = fit_network(make_fabric(model.training), cohort, task, model, checkpoints, None, start)
    state = checkpoints.load()
    for name, weight in before.items():
        for side, part in (("generator", ""), ("average", "module.")):
            assert torch.equal(state[side][f"{part}synthesis.{name}"], weight), name
        assert np.array_equal(fit.tensors[f"synthesis.{name}"], weight.numpy()), name
    for name, weight in correction.items():
        assert torch.equal(state["labels"][f"correction.{name}"], weight), name
    torch.manual_seed(0)
    fresh = resolver().state_dict()
    own = [n for n in fresh if not n.startswith("synthesis.")]
    assert any(not torch.equal(state["generator"][name], fresh[name]) for name in own)
    assert_saved_weights_translate_a_volume(fit.tensors, model, cohort)


def assert_saved_weights_translate_a_volume(tensors, model, cohort) -> None:
    """The saved weights are the whole model; its output depends on the low-resolution target."""
    record = {
        "options": model.model_dump(mode="json"),
        "target": "fa",
        "model": "fgdl-sr",
        "low_res": {"factor": 2, "source": "map"},
        "first": {"options": FgdlCms.model_validate(CMS).model_dump(mode="json"), "target": "fa"},
    }
    network = load_network(tensors, record)
    subject = cohort["validation"][0]
    source, low = subject.volume("t1").data, subject.low_res_volume()
    views = {"context": 1, "planes": ("axial",), "batch_size": 8}
    with_low = translate_volume(torch_engine(network), source, np.eye(4), **views, low_res=low).image
    without = translate_volume(torch_engine(network), source, np.eye(4), **views, low_res=0 * low).image
    assert np.isfinite(with_low).all() and np.abs(with_low - without).max() > 1e-5


def test_a_synthesis_of_other_participants_is_refused(tmp_path, monkeypatch):
    record = {
        "source": "t1",
        "target": "fa",
        "spacing_mm": 3.0,
        "shape": [4, 4, 4],
        "t1_range_percent": [1, 99],
        "split_hash": "one",
    }
    monkeypatch.setattr("m2m.train.load_model", lambda *_: ({}, record))
    with pytest.raises(DataError, match="differ in split_hash"):
        first_stage(tmp_path / "w", record | {"split_hash": "two", "low_res": {"factor": 2}})


def test_the_fingerprint_depends_on_the_synthesis():
    about = dict.fromkeys(("source", "target", "data_hash", "split_hash", "code_version", "encoder"), "x")
    model = FgdlSr.model_validate(SMALL)
    first, second = (configuration(about | {"low_res": LOW, "first": {"weights": w}}, model) for w in "ab")
    assert first != second
    assert set(configuration(about, MeanMap())) == {*about, "options", "stage_version"}


def test_queries_are_computed_by_a_deformable_convolution():
    torch.manual_seed(0)
    queries, x = superres.DeformableQueries(4), torch.rand(1, 4, 6, 6)
    plain = F.conv2d(queries.mix(x), queries.gather.weight, padding=1, groups=12)
    torch.testing.assert_close(queries(x), plain)
    nn.init.normal_(queries.gather.move.weight, std=0.5)
    assert not torch.allclose(queries(x), plain, atol=1e-3)
    assert isinstance(RestormerTranslator(SliceInputs(1), (4, 8), (1, 2)).widths, tuple)
