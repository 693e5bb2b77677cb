"""FGDL: networks of the published size, and terms with gradients where they should have them."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_cohort import write_cohort
from torch import nn
from workflow import CHECKOUT

from m2m.models.building import build_network, build_objective
from m2m.models.prerequisites import Synthesis
from m2m.networks.correction import LabelCorrection
from m2m.networks.discriminators import DifferenceProjectionDiscriminator
from m2m.networks.feature_encoder import SliceEncoder
from m2m.networks.restormer import RestormerTranslator, TransposedAttention
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import StepContext
from m2m.options import Task, load_config
from m2m.options.families.fgdl_cms import FgdlCms
from m2m.options.families.fgdl_sr import FgdlSr
from m2m.train.checkpoint import Checkpoints
from m2m.train.dataset import collate, find_subjects, read_slice
from m2m.train.history import read_rows
from m2m.train.launch import make_fabric
from m2m.train.loop import Loop, fit_network
from m2m.train.stepping import make_reproducible

TERMS = ("l1", "ms_ssim", "perceptual", "adversarial", "features")
SMALL = {
    "network": {"widths": [4, 8], "heads": [1, 2], "blocks": 1},
    "discriminator": {"width": 4, "every": 2, "start": 1},
    "correct_labels": False,
}


def model(training: dict | None = None, **weights: float) -> FgdlCms:
    """Options with these terms only; without arguments, all terms with their default weights."""
    terms = dict.fromkeys(TERMS, 0.0) | weights if weights else {}
    training = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2} | (training or {})
    return FgdlCms.model_validate(SMALL | {"losses": terms, "training": training})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    mask = torch.zeros(3, 1, 32, 40)
    mask[:, :, 8:28, 5:30] = 1
    return {
        "source": torch.rand(3, 1, 32, 40, generator=draw),
        "target": torch.rand(3, 1, 32, 40, generator=draw) * mask,
        "mask": mask,
        "plane": torch.tensor([0, 1, 2]),
        "position": torch.zeros(3, 3, 32, 40),
    }


def build(**weights: float) -> tuple[nn.Module, nn.Module]:
    """Network and objective."""
    torch.manual_seed(0)
    chosen, encoder = model(**weights), SliceEncoder(1, (4, 6))
    network, objective = build_network(chosen), build_objective(chosen, encoder=encoder)
    return network, objective


def context(batch: dict, output: Translation) -> StepContext:
    """Context of a step from `start` on, in which adversarial terms are used."""
    return StepContext(batch, output, None, step=1)


def translate(network: nn.Module, batch: dict[str, torch.Tensor]) -> Translation:
    return network(batch["source"], batch["plane"], batch["position"])


def test_published_widths_have_the_published_numbers_of_parameters():
    published = load_config(CHECKOUT / "config.paper.yaml").models["fgdl-cms"]
    with torch.device("meta"):
        network, objective = build_network(published), build_objective(published)
    assert parameters(network) == pytest.approx(30e6, rel=0.05)
    assert parameters(objective.discriminators) == pytest.approx(5.2e6, rel=0.05)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_published_super_resolution_can_be_built_for_every_factor(factor):
    models = load_config(CHECKOUT / "config.paper.yaml").models
    with torch.device("meta"):
        frozen = Synthesis(build_network(models["fgdl-cms"]), LabelCorrection(1, (4, 8)), factor)
        network = build_network(models["fgdl-sr"], 1, None, frozen)
    assert len(network.stages) == factor.bit_length()
    assert 0.6e6 < parameters(network.stages) < 1.6e6


def test_default_weights_are_those_of_the_paper():
    published = {"l1": 1, "ms_ssim": 1, "perceptual": 0.8, "adversarial": 0.01, "features": 10}
    ours = {"mse": 0}  # no term of the paper
    assert FgdlCms().losses.model_dump() == published | ours
    assert FgdlSr().losses.model_dump() == published | ours | {"similarity": 10}
    assert FgdlCms().discriminator.every == FgdlSr().discriminator.every == 6
    assert FgdlCms().correct_labels.smoothness == 1


@pytest.mark.parametrize("widths, heads", [((4, 8), (1, 2)), ((6, 8, 12, 16), (1, 2, 3, 4))])
@pytest.mark.parametrize("size", [(32, 40), (61, 47)])
def test_a_restormer_of_any_depth_keeps_the_size_and_all_parameters_have_gradient(widths, heads, size):
    torch.manual_seed(0)
    network = RestormerTranslator(SliceInputs(3), widths, heads, blocks=2, out_channels=2)
    image = network(torch.rand(2, 3, *size), torch.zeros(2), torch.zeros(2, 3, *size)).image
    assert image.shape == (2, 2, *size)
    image.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_decoder_s_pyramid_halves_from_level_to_level():
    network = RestormerTranslator(SliceInputs(1), (4, 8, 12), (1, 2, 3), 1)
    shapes = [tuple(x.shape) for x in network.pyramid(torch.rand(2, 1, 32, 40))]
    assert shapes == [(2, 4, 32, 40), (2, 8, 16, 20), (2, 12, 8, 10)]


def test_attention_is_the_softmax_of_the_correlation_of_channels():
    torch.manual_seed(0)
    attend = TransposedAttention(4, 2)
    with torch.no_grad():
        attend.temperature.copy_(torch.tensor([2.0, 0.5]).view(2, 1, 1))
    x = torch.rand(1, 4, 6, 5)
    q, k, v = attend.queries(x).flatten(2).chunk(3, 1)  # each (1, 4, 30)
    parts = []
    for head, temperature in ((slice(0, 2), 2.0), (slice(2, 4), 0.5)):
        cosine = F.cosine_similarity(q[0, head][:, None], k[0, head][None], dim=-1)
        parts.append((cosine * temperature).softmax(-1) @ v[0, head])
    expected = F.conv2d(torch.cat(parts).view(1, 4, 6, 5), attend.last.weight)
    torch.testing.assert_close(attend(x), expected)


@pytest.mark.parametrize("term", (*TERMS, "mse"))
def test_each_term_alone_reaches_every_parameter_of_the_generator(batch, term):
    network, objective = build(**{term: 1.0})
    terms = objective.generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == [term]
    terms[term].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in objective.parameters())


def test_the_discriminator_step_gives_the_generator_no_gradient_and_vice_versa(batch):
    network, objective = build()
    sum(objective.discriminator_terms(context(batch, translate(network, batch))).values()).backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    before = [p.detach().clone() for p in objective.parameters()]
    objective.zero_grad()
    optimizer = torch.optim.Adam([*network.parameters(), *objective.parameters()], 0.1)
    sum(objective.generator_terms(context(batch, translate(network, batch))).values()).backward()
    optimizer.step()
    assert all(map(torch.equal, before, objective.parameters()))


def test_values_outside_the_mask_change_no_term(batch):
    network, objective = build()
    image = translate(network, batch).image
    values = []
    for prediction in (image, image + 9 * (1 - batch["mask"])):
        torch.manual_seed(0)
        state = {name: value.clone() for name, value in objective.state_dict().items()}
        terms = objective.generator_terms(context(batch, Translation(prediction)))
        values.append({name: term.item() for name, term in terms.items()})
        objective.load_state_dict(state)
    assert values[0] == values[1] and set(values[0]) == set(TERMS)


def test_the_logit_depends_on_features_alone_where_the_difference_map_is_0():
    torch.manual_seed(0)
    discriminator = DifferenceProjectionDiscriminator(4).eval()
    image, difference = torch.rand(2, 1, 61, 47), torch.zeros(2, 1, 61, 47)
    without_difference = discriminator(image, difference)
    assert [tuple(x.shape) for x in without_difference.logits] == [(2, 1, 16, 16), (2, 1, 8, 8), (2, 1, 4, 4)]
    for logits, features in zip(*without_difference, strict=True):
        torch.testing.assert_close(logits, discriminator.logit(features))
    # The projection on the embedding is added only where the difference map is not 0.
    difference[:, :, :16, :16] = 0.5
    with_difference = discriminator(image, difference)
    embedded = 0.5 * discriminator.embed.weight.view(1, -1, 1, 1)
    for logits, before, features, n in zip(
        with_difference.logits, without_difference.logits, without_difference.features, (4, 2, 1), strict=True
    ):
        added = logits - before
        expected = (features * embedded).sum(1, keepdim=True)[:, :, :n, :n]
        torch.testing.assert_close(added[:, :, :n, :n], expected, atol=1e-5, rtol=1e-4)
        added[:, :, :n, :n] = 0
        assert not added.any()


def test_relativistic_logits_are_relative_to_the_mean_of_the_other_images():
    equal = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2)]
    assert losses.relativistic_adversarial(equal, equal).item() == pytest.approx(2 * math.log(2))
    real, fake = [torch.tensor([1.0, 3.0])], [torch.tensor([-1.0, 0.0])]
    soft = torch.nn.functional.softplus
    expected = (soft(torch.tensor(-1.5)) + soft(torch.tensor(-3.5))) / 2
    expected += (soft(torch.tensor(-3.0)) + soft(torch.tensor(-2.0))) / 2
    found = losses.relativistic_adversarial(real, fake)
    assert found.item() == pytest.approx(expected.item())
    assert losses.relativistic_adversarial(fake, real) > found


def test_feature_matching_is_the_mean_difference_over_heads():
    a = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)]
    b = [torch.full((1, 2, 4, 4), 0.5), torch.full((1, 2, 2, 2), -1.5)]
    assert losses.feature_matching(a, b).item() == pytest.approx(1.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    parts = write_cohort(root, n_train=2, n_validation=1)
    return find_subjects(root / "slices", parts, "t1", "fa")[0]


@pytest.fixture(scope="module")
def fabric():
    return make_fabric(model().training)


def test_the_discriminator_is_updated_every_second_step_from_its_start(cohort, fabric):
    make_reproducible(1, fabric.device)
    loop = Loop(fabric, model())
    sample = read_slice(cohort["train"][0], "axial", 12, "t1", "fa", 1)
    batch = collate([sample, sample], "axial", ["sub-00"] * 2)
    terms = [set(loop.update(step, batch)) for step in range(4)]
    assert ["discriminator" in names for names in terms] == [False, True, False, True]
    assert ["adversarial" in names for names in terms] == [False, True, True, True]


def test_a_resumed_run_has_the_same_losses_and_weights(cohort, fabric, tmp_path):
    chosen, checkpoints = model(), [Checkpoints(tmp_path / name, {}) for name in "ab"]
    uninterrupted, _ = (fit_network(fabric, cohort, Task(), chosen, one) for one in checkpoints)
    for path in checkpoints[1].folder.glob("step-*6.ckpt"):
        path.unlink()
    resumed = fit_network(fabric, cohort, Task(), chosen, checkpoints[1])
    for name, weights in uninterrupted.tensors.items():
        assert (weights == resumed.tensors[name]).all(), name
    histories = [[row | {"seconds": 0} for row in read_rows(one.folder / "metrics.jsonl")] for one in checkpoints]
    assert histories[0] == histories[1]
    assert histories[1][-2]["adversarial"] and "adversarial" not in histories[1][0]


def test_impossible_widths_and_heads_are_refused_by_name():
    for network, message in (
        ({"widths": [4, 8], "heads": [1]}, "one number for each level"),
        ({"widths": [4, 8], "heads": [1, 3]}, "8 cannot be divided among 3 heads"),
        ({"widths": [4, 6], "heads": [1, 2]}, "multiples of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            FgdlCms.model_validate({"network": network})
