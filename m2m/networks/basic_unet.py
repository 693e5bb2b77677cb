"""U-Net and PatchGAN of the published baselines: MONAI's, with slices padded to what they need.

References
----------
Ronneberger et al. (2015), U-Net, arXiv:1505.04597. Isola et al. (2017), pix2pix,
arXiv:1611.07004. MONAI, arXiv:2211.02701.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.nets import BasicUNet, PatchDiscriminator
from torch import Tensor, nn

from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation


class UNetTranslator(nn.Module):
    """One slice of the target from neighbouring slices of the source.

    Parameters
    ----------
    inputs : SliceInputs
        What is seen of the source.
    features : sequence of 5 int
        Channels of each level, fine to coarse.
    out_channels : int
        Channels of the target.
    dropout : float
    """

    multiple = 16

    def __init__(
        self,
        inputs: SliceInputs,
        features: Sequence[int],
        out_channels: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.inputs = inputs
        # The sixth number is of the layer behind the finest level.
        self.unet = BasicUNet(
            2, inputs.channels, out_channels, (*features, features[0]), dropout=dropout,
            norm=("instance", {"affine": True}),
        )  # fmt: skip

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices (N, context, H, W) to (N, out_channels, H, W), unbounded.

        The orientation (N,) is not made use of.
        """
        height, width = source.shape[-2:]
        seen = self.inputs(source, position)  # (N, inputs.channels, H, W)
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        return Translation(self.unet(F.pad(seen, pad))[..., :height, :width])


class PatchGan(nn.Module):
    """Real or synthetic, patch by patch.

    Parameters
    ----------
    width : int
        Channels of the first layer.
    layers : int
    in_channels : int
        Of the slice judged and of what stands beside it.
    """

    def __init__(self, width: int, layers: int, in_channels: int):
        super().__init__()
        self.net = PatchDiscriminator(2, width, in_channels, num_layers_d=layers, norm="instance")

    def forward(self, image: Tensor) -> Tensor:
        """Judge (N, in_channels, H, W): logits (N, 1, h, w), positive for real."""
        return self.net(image)[-1]
