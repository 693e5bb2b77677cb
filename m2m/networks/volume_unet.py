"""U-Net of volumes: MONAI's network and its inference by overlapping windows.

References
----------
Çiçek et al. (2016), 3D U-Net, arXiv:1606.06650. Isensee et al. (2021), nnU-Net (overlapping windows with
Gaussian weights), https://doi.org/10.1038/s41592-020-01008-z. MONAI, arXiv:2211.02701.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation


class VolumeTranslator(nn.Module):
    """Slices of the target from consecutive slices of the source, which are a volume.

    Parameters
    ----------
    inputs : SliceInputs
        Input channels of each slice: the source, position, prior.
    features : sequence of 5 int
        Channels of each level, fine to coarse.
    depth : int
        Slices of a stack, a multiple of 16.
    overlap : float
        Fraction of a window that the next one covers too.
    out_channels : int
        Channels of the target.
    dropout : float
        Probability.

    Raises
    ------
    ValueError
        `depth` cannot be halved four times.
    """

    multiple = 16

    def __init__(
        self,
        inputs: SliceInputs,
        features: Sequence[int],
        depth: int,
        overlap: float = 0.5,
        out_channels: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        if depth % self.multiple:
            raise ValueError(f"depth must be a multiple of {self.multiple}, got {depth}")
        self.inputs, self.depth, self.overlap = inputs, depth, overlap
        # The sixth number belongs to the layer after the finest level.
        self.unet = BasicUNet(
            3,
            inputs.channels,
            out_channels,
            (*features, features[0]),
            dropout=dropout,
            norm=("instance", {"affine": True}),
        )

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate a volume by overlapping windows.

        Parameters
        ----------
        source : Tensor, shape (D, 1, H, W)
            Scaled source, 0 outside the brain: consecutive slices of one orientation, any number.
        plane : Tensor of int64, shape (D,)
            Orientation, for a prior of tensors.
        position : Tensor, shape (D, 3, H, W)
            MNI152 mm of each pixel.

        Returns
        -------
        Translation
            Image (D, out_channels, H, W), unbounded.
        """
        height, width = source.shape[-2:]
        volume = self._padded(source, plane, position).transpose(0, 1)[None]  # (1, C, D, H', W')
        window = (self.depth, *volume.shape[-2:])
        image = sliding_window_inference(volume, window, 1, self.unet, self.overlap, "gaussian")
        return Translation(image[0].transpose(0, 1)[..., :height, :width])  # (D, out, H, W)

    def of_stacks(self, source: Tensor, plane: Tensor, position: Tensor) -> Translation:
        """Translate stacks of `depth` slices, one after the other in the batch, each by itself.

        Parameters
        ----------
        source : Tensor, shape (N depth, 1, H, W)
        plane : Tensor of int64, shape (N depth,)
        position : Tensor, shape (N depth, 3, H, W)

        Returns
        -------
        Translation
            Image (N depth, out_channels, H, W), unbounded.
        """
        height, width = source.shape[-2:]
        channels = self._padded(source, plane, position).unflatten(0, (-1, self.depth))  # (N, depth, C, H', W')
        image = self.unet(channels.transpose(1, 2)).transpose(1, 2)  # (N, depth, out, H', W')
        return Translation(image.flatten(0, 1)[..., :height, :width])

    def _padded(self, source: Tensor, plane: Tensor, position: Tensor) -> Tensor:
        """Input channels of each slice, (D, C, H', W')."""
        height, width = source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        return F.pad(self.inputs(source, plane, position), pad)
