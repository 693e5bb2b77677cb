"""CycleGAN: two U-Nets and two patch discriminators, trained on unpaired slices.

References
----------
Zhu et al. (2017), CycleGAN, arXiv:1703.10593.
Mao et al. (2017), least squares, arXiv:1611.04076.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.basic_unet import PatchGan, UNetTranslator
from m2m.networks.processes import share, whole_batch
from m2m.networks.slice_inputs import SliceInputs, TemplateMap
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.objectives.scoring import centre, score_frozen
from m2m.options.families.cyclegan import CycleGan


def build_network(
    options: CycleGan, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Build a U-Net of MONAI.

    Parameters
    ----------
    options : CycleGan
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    UNetTranslator
    """
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(options: CycleGan, channels: int, encoder: nn.Module | None) -> "CycleGanObjective":
    """Build the cycle, identity and adversarial terms; another U-Net maps targets back to sources.

    Parameters
    ----------
    options : CycleGan
    channels : int
        Not used: the target has one channel.
    encoder : Module or None
        Not used.

    Returns
    -------
    CycleGanObjective
    """
    network, discriminator = options.network, options.discriminator
    back = UNetTranslator(SliceInputs(1), network.features, 1, network.dropout)
    return CycleGanObjective(
        back,
        discriminator.width,
        discriminator.layers,
        options.cycle,
        options.identity,
        every=discriminator.every,
        learning_rate=discriminator.learning_rate,
    )


class CycleGanObjective(Objective):
    """Losses of two generators and two discriminators, without pairs of a slice and its target.

    Targets are shifted by one position in the batch, so that each source slice goes with the target
    of another slice, mostly of another participant.

    Parameters
    ----------
    back : Module
        The generator from target to source.
    width, layers : int
        Channels of the first layer, and strided layers, of each discriminator.
    cycle, identity : float
        Weights; the adversarial terms have weight 1.
    every : int
    learning_rate : float
        As for `Objective`.
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
        discriminators = {name: PatchGan(width, layers, 1) for name in names}
        super().__init__(discriminators, {"back": back}, every=every, learning_rate=learning_rate)
        self.cycle, self.identity = cycle, identity

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`.

        As published, the adversarial terms are used in every step.
        """
        batch, generator, back = context.batch, context.generator, self.helpers["back"]
        source, target, mask = _unpaired(batch)
        plane, target_position = batch["plane"], _shift_in_batch(batch["position"])
        brain = batch["brain"]
        image = context.output.image.float() * brain
        source_cycle = back(image, plane, batch["position"]).image.float() * brain
        synthetic_source = back(target, plane, target_position).image.float() * mask
        target_cycle = generator(synthetic_source, plane, target_position).image.float() * mask
        terms = {
            "adversarial": self._generator_loss("target_discriminator", image),
            "adversarial_back": self._generator_loss("source_discriminator", synthetic_source),
            "cycle": self.cycle * losses.masked_l1(source_cycle, source, brain),
            "cycle_back": self.cycle * losses.masked_l1(target_cycle, target, mask),
        }
        if self.identity:
            same_target = generator(target, plane, target_position).image
            same_source = back(source, plane, target_position).image
            terms["identity"] = self.identity * losses.masked_l1(same_target, target, mask)
            terms["identity_back"] = self.identity * losses.masked_l1(same_source, source, brain)
        return terms

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        batch, back = context.batch, self.helpers["back"]
        source, target, mask = _unpaired(batch)
        image = context.output.image.detach().float() * batch["brain"]
        with torch.no_grad():
            synthetic_source = back(target, batch["plane"], batch["position"]).image.float() * mask
        return {
            "target_discriminator": self._discriminator_loss("target_discriminator", target, image),
            "source_discriminator": self._discriminator_loss("source_discriminator", source, synthetic_source),
        }

    def _generator_loss(self, name: str, image: Tensor) -> Tensor:
        """Least-squares loss of a generator: (D(fake) - 1)^2."""
        logits = score_frozen(self.discriminators[name], image)
        return (logits.float() - 1).square().mean()

    def _discriminator_loss(self, name: str, real: Tensor, fake: Tensor) -> Tensor:
        """Least-squares loss of a discriminator: half of (D(real) - 1)^2 + D(fake)^2."""
        real_logits, fake_logits = (self.discriminators[name](image).float() for image in (real, fake))
        return 0.5 * ((real_logits - 1).square().mean() + fake_logits.square().mean())


def _unpaired(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Source slices, targets of other slices of the batch, and the masks of these targets."""
    target, mask = (_shift_in_batch(batch[name]) for name in ("target", "mask"))
    return centre(batch), target * mask, mask


def _shift_in_batch(own: Tensor) -> Tensor:
    """Replace each item by the previous one of the whole batch."""
    return share(torch.roll(whole_batch(own), 1, 0))
