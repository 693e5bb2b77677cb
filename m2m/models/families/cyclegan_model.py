"""CycleGAN: two U-Nets and two patch discriminators that never see a pair.

References
----------
Zhu et al. (2017), CycleGAN, arXiv:1703.10593.
Mao et al. (2017), least squares, arXiv:1611.04076.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.basic_unet import PatchGan, UNetTranslator
from m2m.networks.processes import share, whole_batch
from m2m.networks.slice_inputs import SliceInputs, TemplateMap
from m2m.objectives import losses
from m2m.objectives.judging import centre, judge_frozen
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options.families.cyclegan import CycleGan


def build_network(
    options: CycleGan, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """MONAI's U-Net."""
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(
    options: CycleGan, channels: int, encoder: nn.Module | None
) -> "CycleGanObjective":
    """Cycles, identities, and the discriminators; the way back is by another U-Net."""
    network, judge = options.network, options.discriminator
    back = UNetTranslator(SliceInputs(1), network.features, 1, network.dropout)
    return CycleGanObjective(
        back, judge.width, judge.layers, options.cycle, options.identity, every=judge.every,
        learning_rate=judge.learning_rate,
    )  # fmt: skip


class CycleGanObjective(Objective):
    """Two generators and two discriminators that never see a slice beside its own target.

    Targets are moved on by one place in the batch, so that they are of other slices, mostly of
    other people.

    Parameters
    ----------
    back : Module
        The generator from target to source.
    width, layers : int
        Of the discriminators.
    cycle, identity : float
        Weights; the adversarial terms have 1.
    every, learning_rate
        As of `Objective`.
    """

    def __init__(
        self,
        back: nn.Module,
        width: int,
        layers: int,
        cycle: float,
        identity: float,
        *,
        every: int = 1,
        learning_rate: float = 0.0,
    ):
        names = ("target_discriminator", "source_discriminator")
        judges = {name: PatchGan(width, layers, 1) for name in names}
        super().__init__(judges, {"back": back}, every=every, learning_rate=learning_rate)
        self.cycle, self.identity = cycle, identity

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`.

        The generator, from source to target, closes the cycle. As published, the discriminators
        are heard in every step.
        """
        batch, generator, back = context.batch, context.generator, self.helpers["back"]
        source, target, mask = _unpaired(batch)
        plane, place = batch["plane"], _moved_on(batch["position"])
        brain = batch["brain"]
        image = context.output.image.float() * brain
        returned = back(image, plane, batch["position"]).image.float() * brain
        made = back(target, plane, place).image.float() * mask
        cycled = generator(made, plane, place).image.float() * mask
        terms = {
            "adversarial": self._fooled("target_discriminator", image),
            "adversarial_back": self._fooled("source_discriminator", made),
            "cycle": self.cycle * losses.masked_l1(returned, source, brain),
            "cycle_back": self.cycle * losses.masked_l1(cycled, target, mask),
        }
        if self.identity:
            kept = generator(target, plane, place).image, back(source, plane, place).image
            terms["identity"] = self.identity * losses.masked_l1(kept[0], target, mask)
            terms["identity_back"] = self.identity * losses.masked_l1(kept[1], source, brain)
        return terms

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        batch, back = context.batch, self.helpers["back"]
        source, target, mask = _unpaired(batch)
        image = context.output.image.detach().float() * batch["brain"]
        with torch.no_grad():
            made = back(target, batch["plane"], batch["position"]).image.float() * mask
        return {
            "target_discriminator": self._told_apart("target_discriminator", target, image),
            "source_discriminator": self._told_apart("source_discriminator", source, made),
        }

    def _fooled(self, judge: str, image: Tensor) -> Tensor:
        """Least-squares loss of a generator: (D(fake) - 1)^2."""
        logits = judge_frozen(self.discriminators[judge], image)
        return (logits.float() - 1).square().mean()

    def _told_apart(self, judge: str, real: Tensor, fake: Tensor) -> Tensor:
        """Least-squares loss of a discriminator: half of (D(real) - 1)^2 + D(fake)^2."""
        right, wrong = (self.discriminators[judge](image).float() for image in (real, fake))
        return 0.5 * ((right - 1).square().mean() + wrong.square().mean())


def _unpaired(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Source slices, target slices of other places in the batch, and their masks."""
    target, mask = (_moved_on(batch[name]) for name in ("target", "mask"))
    return centre(batch), target * mask, mask


def _moved_on(own: Tensor) -> Tensor:
    """Give each slice what the one before it in the whole batch has."""
    return share(torch.roll(whole_batch(own), 1, 0))
