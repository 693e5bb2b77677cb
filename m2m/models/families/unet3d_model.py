"""A U-Net of volumes, trained by regression as the U-Net of slices is."""

from collections.abc import Mapping

from torch import Tensor, nn

from m2m.models.families.unet_model import RegressionObjective
from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.translation import Translation
from m2m.networks.volume_unet import VolumeTranslator
from m2m.options.families.unet3d import UNet3D


def build_network(options: UNet3D, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build a U-Net of MONAI in three dimensions.

    Parameters
    ----------
    options : UNet3D
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    VolumeTranslator
    """
    network = options.network
    inputs = slice_inputs(network, prior)
    return VolumeTranslator(inputs, network.features, network.depth, network.overlap, channels, network.dropout)


def build_objective(options: UNet3D, channels: int, encoder: nn.Module | None) -> "StackObjective":
    """Build L1, structural similarity and mean squared error.

    Parameters
    ----------
    options : UNet3D
    channels : int
        Not used.
    encoder : Module or None
        Not used.

    Returns
    -------
    StackObjective
    """
    return StackObjective(options.l1, options.ssim, options.mse)


class StackObjective(RegressionObjective):
    """Regression of the slices of stacks."""

    def translate(self, generator: nn.Module, batch: Mapping[str, Tensor]) -> Translation:
        """As `Objective.translate`: the slices of a batch are whole stacks."""
        assert isinstance(generator, VolumeTranslator)  # the network of this family
        return generator.of_stacks(batch["source"], batch["plane"], batch["position"])
