"""U-Net and PatchGAN of the published baselines: the networks of MONAI, with padded slices.

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
        Input channels: source slices, position, prior.
    features : sequence of 5 int
        Channels of each level, fine to coarse.
    out_channels : int
        Channels of the target.
    dropout : float
        Probability.
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
        # The sixth number belongs to the layer after the finest level.
        self.unet = BasicUNet(
            2,
            inputs.channels,
            out_channels,
            (*features, features[0]),
            dropout=dropout,
            norm=("instance", {"affine": True}),
        )

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate slices.

        Parameters
        ----------
        source : Tensor, shape (N, context, H, W)
            Scaled source, 0 outside the brain.
        plane : Tensor of int64, shape (N,)
            Orientation of each slice, for a prior of tensors.
        position : Tensor, shape (N, 3, H, W)
            MNI152 mm of each pixel.

        Returns
        -------
        Translation
            Image (N, out_channels, H, W), unbounded.
        """
        height, width = source.shape[-2:]
        channels = self.inputs(source, plane, position)  # (N, inputs.channels, H, W)
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        return Translation(self.unet(F.pad(channels, pad))[..., :height, :width])


class PatchGan(nn.Module):
    """PatchGAN discriminator: classifies each patch as real or synthetic.

    Parameters
    ----------
    width : int
        Channels of the first layer.
    layers : int
        Convolutions with stride 2.
    in_channels : int
        Channels of the slice and of its condition together.
    """

    def __init__(self, width: int, layers: int, in_channels: int):
        super().__init__()
        self.net = PatchDiscriminator(2, width, in_channels, num_layers_d=layers, norm="instance")

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to logits (N, 1, h, w), positive for real."""
        return self.net(image)[-1]
