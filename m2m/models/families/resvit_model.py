"""ResViT: a residual vision transformer, trained as pix2pix is.

References
----------
Dalmaz et al. (2022), ResViT, https://doi.org/10.1109/TMI.2022.3167808.
"""

from torch import nn

from m2m.models.families.pix2pix_model import build_objective
from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.residual_transformer import ResVitTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.options.families.resvit import ResVit

# The objective is that of pix2pix, with its options.
__all__ = ["build_network", "build_objective"]


def build_network(options: ResVit, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build the residual vision transformer.

    Parameters
    ----------
    options : ResVit
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    ResVitTranslator
    """
    network = options.network
    return ResVitTranslator(
        slice_inputs(network, prior),
        network.widths,
        network.blocks,
        network.transformers,
        network.layers,
        network.heads,
        network.reduce,
        channels,
    )
