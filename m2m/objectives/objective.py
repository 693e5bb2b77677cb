"""Interface of objectives: the terms that a generator and its discriminators minimise."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from m2m.networks.translation import Translation

Terms = dict[str, Tensor]


class StepContext(NamedTuple):
    """Inputs of an objective in a training step.

    Attributes
    ----------
    batch : mapping of str to Tensor
        ``source`` (N, context, H, W), ``target`` (N, C, H, W), its ``mask`` and the source's
        ``brain`` (N, 1, H, W), ``plane`` (N,) and ``position`` (N, 3, H, W).
    output : Translation
        Of `Objective.translate`, with gradients.
    generator : Module
        The network being trained.
    step : int
        Number of the training step, from 0.
    adversarial : bool
        Whether the discriminators are updated in this step (before the generator).
    """

    batch: Mapping[str, Tensor]
    output: Translation
    generator: nn.Module
    step: int = 0
    adversarial: bool = True


class Objective(nn.Module, ABC):
    """Loss terms of the generator and the discriminators of a family.

    Parameters
    ----------
    discriminators : mapping of str to Module, or None
        Discriminators by name; None: no adversarial training.
    helpers : mapping of str to Module, or None
        Other networks that are trained together with the generator, by name.
    every, start : int
        Discriminators are updated in one of `every` steps, from step `start` on.
    learning_rate : float
        Of the discriminators.
    """

    def __init__(
        self,
        discriminators: Mapping[str, nn.Module] | None = None,
        helpers: Mapping[str, nn.Module] | None = None,
        every: int = 1,
        start: int = 0,
        learning_rate: float = 0.0,
    ):
        super().__init__()
        self.discriminators = nn.ModuleDict(discriminators)
        self.helpers = nn.ModuleDict(helpers)
        self.every, self.start, self.learning_rate = every, start, learning_rate

    def adversarial(self, step: int) -> bool:
        """Whether the discriminators are updated in a step."""
        return step >= self.start and (step - self.start) % self.every == 0

    def translate(self, generator: nn.Module, batch: Mapping[str, Tensor]) -> Translation:
        """Output of the generator for a training batch; by default the translation of its slices."""
        return generator(batch["source"], batch["plane"], batch["position"])

    @abstractmethod
    def generator_terms(self, context: StepContext) -> Terms:
        """Compute the weighted terms of the generator's loss: named scalars, whose sum is minimised.

        They give no gradient to the discriminators.
        """

    def discriminator_terms(self, context: StepContext) -> Terms:
        """Compute the terms of the discriminators' loss; they give no gradient to the generator."""
        return {}
