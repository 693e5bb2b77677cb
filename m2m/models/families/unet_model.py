"""A U-Net, trained by regression: L1, structural similarity and mean squared error, no discriminator."""

from torch import nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.basic_unet import UNetTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options.families.unet import UNet


def build_network(options: UNet, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build a U-Net of MONAI.

    Parameters
    ----------
    options : UNet
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


def build_objective(options: UNet, channels: int, encoder: nn.Module | None) -> "RegressionObjective":
    """Build L1, structural similarity and mean squared error.

    Parameters
    ----------
    options : UNet
    channels : int
        Not used.
    encoder : Module or None
        Not used.

    Returns
    -------
    RegressionObjective
    """
    return RegressionObjective(options.l1, options.ssim, options.mse)


class RegressionObjective(Objective):
    """L1, structural similarity and mean squared error inside the target mask; no discriminator.

    Parameters
    ----------
    l1, ssim, mse : float
        Weights; a mean squared error of weight 0 is no term.
    """

    def __init__(self, l1: float, ssim: float, mse: float = 0.0):
        super().__init__()
        self.l1, self.ssim, self.mse = l1, ssim, mse

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`."""
        mask = context.batch["mask"]
        target, image = context.batch["target"] * mask, context.output.image.float() * mask
        terms = {
            "l1": self.l1 * losses.masked_l1(image, target, mask),
            "ssim": self.ssim * losses.ms_ssim_loss(image, target, mask, weights=(1.0,)),
        }
        if self.mse:
            terms["mse"] = self.mse * losses.masked_squares(image, target, mask)
        return terms
