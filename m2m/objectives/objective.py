"""The contract of objectives: what a generator and its discriminators minimise in a step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from m2m.networks.translation import Translation

Terms = dict[str, Tensor]


class StepContext(NamedTuple):
    """What an objective knows of a training step.

    Attributes
    ----------
    batch : mapping of str to Tensor
        ``source`` (N, context, H, W), ``target`` (N, C, H, W), its ``mask`` and the source's
        ``brain`` (N, 1, H, W), ``plane`` (N,) and ``position`` (N, 3, H, W).
    output : Translation
        Of ``batch["source"]``, with gradients.
    generator : Module
        That it is of.
    step : int
        Of the training, from 0: the one clock.
    adversarial : bool
        Whether the discriminators learn in this step, which they do before the generator.
    """

    batch: Mapping[str, Tensor]
    output: Translation
    generator: nn.Module
    step: int = 0
    adversarial: bool = True


class Objective(nn.Module, ABC):
    """What a family's generator and discriminators minimise.

    Parameters
    ----------
    discriminators : mapping of str to Module, or None
        By name; none: there is no opponent.
    helpers : mapping of str to Module, or None
        What else learns on the generator's side, by name.
    every, start : int
        Discriminators learn in each so many steps, from this step on.
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
        """Whether the discriminators learn in a step."""
        return step >= self.start and (step - self.start) % self.every == 0

    @abstractmethod
    def generator_terms(self, context: StepContext) -> Terms:
        """Weighted terms of the generator's loss: named scalars, whose sum is minimised.

        They carry no gradient to discriminators.
        """

    def discriminator_terms(self, context: StepContext) -> Terms:
        """Terms of the discriminators' loss; they carry no gradient to the generator."""
        return {}
