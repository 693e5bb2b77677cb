"""A small convolutional network that predicts a phenotype from whole volumes.

References
----------
Peng et al. (2021), Accurate brain age prediction with lightweight deep neural networks, Med Image
Anal 68:101871, https://doi.org/10.1016/j.media.2020.101871 (SFCN).
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class VolumeNetwork(nn.Module):
    """Network like SFCN: blocks of convolution, batch normalisation and pooling, then a mean over the volume.

    It differs from SFCN in two ways: outputs are values or class scores, not a distribution over
    age bins; and there are as many blocks as widths.

    Parameters
    ----------
    channels : int
        Images per participant.
    widths : sequence of int
        Channels of each block, which halves the volume.
    outputs : int
        Number of values or classes.
    dropout : float
        Share of the last features that is dropped in training.
    """

    def __init__(self, channels: int, widths: Sequence[int], outputs: int, dropout: float):
        super().__init__()
        blocks = [
            nn.Sequential(
                nn.Conv3d(a, b, 3, padding=1, bias=False),
                nn.BatchNorm3d(b),
                nn.MaxPool3d(2),
                nn.ReLU(),
            )
            for a, b in pairwise((channels, *widths))
        ]
        last = widths[-1]
        mix = nn.Sequential(nn.Conv3d(last, last, 1, bias=False), nn.BatchNorm3d(last), nn.ReLU())
        self.features = nn.Sequential(*blocks, mix)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, outputs))

    def forward(self, volumes: Tensor) -> Tensor:
        """Predict (N, outputs) from volumes (N, channels, X, Y, Z)."""
        return self.head(self.features(volumes).mean(dim=(2, 3, 4)))
