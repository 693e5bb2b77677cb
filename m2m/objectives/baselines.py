"""Objectives of the published baselines: U-Net regression, pix2pix, CycleGAN.

References
----------
Isola et al. (2017), pix2pix, arXiv:1611.07004. Zhu et al. (2017), CycleGAN, arXiv:1703.10593.
Mao et al. (2017), least squares, arXiv:1611.04076.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m import losses, options
from m2m.networks.basic_unet import PatchGan, UNetTranslator
from m2m.networks.inputs import SliceInputs
from m2m.networks.octave import Translation
from m2m.objectives.base import Objective, Terms
from m2m.objectives.macro2micro import centre, judge_frozen
from m2m.processes import share, whole_batch


class RegressionObjective(Objective):
    """L1 and structural similarity inside the target mask; no discriminator.

    Parameters
    ----------
    l1, ssim : float
        Weights.
    """

    def __init__(self, l1: float, ssim: float):
        super().__init__()
        self.l1, self.ssim = l1, ssim

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms, as of `Macro2MicroObjective.generator_terms`."""
        mask = batch["mask"]
        target, image = batch["target"] * mask, translation.image.float() * mask
        return {
            "image": self.l1 * losses.masked_l1(image, target, mask),
            "ssim": self.ssim * losses.ms_ssim_loss(image, target, mask, weights=(1.0,)),
        }


class Pix2PixObjective(Objective):
    """L1, and a PatchGAN that sees the source beside the image.

    Parameters
    ----------
    judge : options.PatchJudge
    l1 : float
        Weight of L1; the adversarial term has 1.
    channels : int
        Of the target.
    """

    def __init__(self, judge: options.PatchJudge, l1: float, channels: int = 1):
        super().__init__()
        self.every, self.learning_rate, self.l1 = judge.every, judge.learning_rate, l1
        self.discriminator = PatchGan(judge.width, judge.layers, channels + 1)

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms, as of `Macro2MicroObjective.generator_terms`.

        As published, the discriminator is heard in every step.
        """
        mask = batch["mask"]
        target, image = batch["target"] * mask, translation.image.float() * mask
        logits = judge_frozen(self.discriminator, torch.cat([image, centre(batch)], 1))
        return {
            "image": self.l1 * losses.masked_l1(image, target, mask),
            "adversarial": losses.generator_adversarial(logits),
        }

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Term of the discriminator's loss; the translation is detached here."""
        mask, source = batch["mask"], centre(batch)
        images = batch["target"] * mask, translation.image.detach().float() * mask
        real, fake = (self.discriminator(torch.cat([image, source], 1)) for image in images)
        return {"discriminator": losses.discriminator_adversarial(real, fake)}


class CycleGanObjective(Objective):
    """Two generators and two discriminators that never see a slice beside its own target.

    Targets are moved on by one place in the batch, so that they are of other slices, mostly of
    other people.

    Parameters
    ----------
    network : options.UNetwork
        Of the generator from target to source.
    judge : options.PatchJudge
    cycle, identity : float
        Weights; the adversarial terms have 1.
    """

    def __init__(
        self,
        network: options.UNetwork,
        judge: options.PatchJudge,
        cycle: float,
        identity: float,
    ):
        super().__init__()
        self.every, self.learning_rate = judge.every, judge.learning_rate
        self.cycle, self.identity = cycle, identity
        self.back = UNetTranslator(SliceInputs(1), network.features, 1, network.dropout)
        self.target_discriminator = PatchGan(judge.width, judge.layers, 1)
        self.source_discriminator = PatchGan(judge.width, judge.layers, 1)

    def helpers(self) -> dict[str, nn.Module]:
        """The generator from target to source."""
        return {"back": self.back}

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms, as of `Macro2MicroObjective.generator_terms`.

        `generator`, from source to target, closes the cycle. As published, the discriminators
        are heard in every step.
        """
        source, target, mask = _unpaired(batch)
        plane, place = batch["plane"], _moved_on(batch["position"])
        brain = batch["brain"]
        image = translation.image.float() * brain
        returned = self.back(image, plane, batch["position"]).image.float() * brain
        made = self.back(target, plane, place).image.float() * mask
        cycled = generator(made, plane, place).image.float() * mask
        terms = {
            "adversarial": _fooled(judge_frozen(self.target_discriminator, image)),
            "adversarial_back": _fooled(judge_frozen(self.source_discriminator, made)),
            "cycle": self.cycle * losses.masked_l1(returned, source, brain),
            "cycle_back": self.cycle * losses.masked_l1(cycled, target, mask),
        }
        if self.identity:
            kept = generator(target, plane, place).image, self.back(source, plane, place).image
            terms["identity"] = self.identity * losses.masked_l1(kept[0], target, mask)
            terms["identity_back"] = self.identity * losses.masked_l1(kept[1], source, brain)
        return terms

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Terms of the discriminators' loss; what is synthetic is detached here."""
        source, target, mask = _unpaired(batch)
        image = translation.image.detach().float() * batch["brain"]
        with torch.no_grad():
            made = self.back(target, batch["plane"], batch["position"]).image.float() * mask
        return {
            "target_discriminator": _told_apart(self.target_discriminator, target, image),
            "source_discriminator": _told_apart(self.source_discriminator, source, made),
        }


def _unpaired(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Source slices, target slices of other places in the batch, and their masks."""
    target, mask = (_moved_on(batch[name]) for name in ("target", "mask"))
    return centre(batch), target * mask, mask


def _moved_on(own: Tensor) -> Tensor:
    """Give each slice what the one before it in the whole batch has."""
    return share(torch.roll(whole_batch(own), 1, 0))


def _fooled(logits: Tensor) -> Tensor:
    """Least-squares loss of a generator: (D(fake) - 1)^2."""
    return (logits.float() - 1).square().mean()


def _told_apart(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Least-squares loss of a discriminator: half of (D(real) - 1)^2 + D(fake)^2."""
    right, wrong = judge(real).float(), judge(fake).float()
    return 0.5 * ((right - 1).square().mean() + wrong.square().mean())
