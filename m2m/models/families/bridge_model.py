"""A Brownian bridge from source to target, trained at random times.

References
----------
Liu et al. (2023), I2SB, arXiv:2302.05872.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.brownian_bridge import BridgeTranslator
from m2m.networks.processes import place, share
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options.families.bridge import Bridge


def build_network(options: Bridge, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build the network of the bridge, which samples in translation.

    Parameters
    ----------
    options : Bridge
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    BridgeTranslator
    """
    network, sampling = options.network, options.sampling
    inputs = slice_inputs(network, prior)
    return BridgeTranslator(inputs, network.widths, channels, options.noise, sampling.steps, sampling.samples)


def build_objective(options: Bridge, channels: int, encoder: nn.Module | None) -> "BridgeObjective":
    """Build the mean squared error at random times.

    Parameters
    ----------
    options : Bridge
    channels : int
        Not used.
    encoder : Module or None
        Not used.

    Returns
    -------
    BridgeObjective
    """
    return BridgeObjective(options.training.seed)


class BridgeObjective(Objective):
    """Mean squared error, inside the target mask, of the bridge's end as it is predicted at a random time.

    The squared error, since its minimum is the mean that the bridge's drift needs.

    Parameters
    ----------
    seed : int
        Of times and noise. The state of the random number generator is part of the state dictionary, so that a
        resumed training draws the same.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Get the state of the random number generator."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Set the state of the random number generator."""
        self.generator.set_state(state.cpu())

    def translate(self, generator: nn.Module, batch: Mapping[str, Tensor]) -> Translation:
        """As `Objective.translate`: the end of the bridge, predicted at a random time from 0 to below 1."""
        assert isinstance(generator, BridgeTranslator)  # the network of this family
        start, brain = generator.start(batch["source"])
        target = batch["target"] * batch["mask"]
        n = place()[1] * len(target)
        # Of the whole batch, of which a process takes its share.
        time = share(torch.rand(n, generator=self.generator)).to(target.device)
        noise = share(torch.randn(n, *target.shape[1:], generator=self.generator)).to(target.device)
        t = time[:, None, None, None]
        point = (1 - t) * start + t * target + brain * generator.noise * (t * (1 - t)).sqrt() * noise
        given = generator.inputs(batch["source"], batch["plane"], batch["position"])
        return Translation(generator.end(point, time, given))

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`."""
        batch = context.batch
        return {"mse": losses.masked_squares(context.output.image.float(), batch["target"], batch["mask"])}
