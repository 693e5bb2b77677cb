"""Feature networks of the perceptual loss: a small encoder trained on slices, and VGG19.

References
----------
Vincent et al. (2008), denoising autoencoders, https://doi.org/10.1145/1390156.1390294.
Simonyan and Zisserman (2015), VGG, arXiv:1409.1556.
Johnson et al. (2016), perceptual losses, arXiv:1603.08155.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Channels of the convolutions of VGG19 before each pooling; of the last block, the first only.
VGG19 = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


class SliceEncoder(nn.Module):
    """Features of a slice at several resolutions, each half of the one before.

    Parameters
    ----------
    channels : int
        Channels of the slice.
    widths : sequence of int
        Features of each level, fine to coarse.
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.LeakyReLU(0.2),
            )
            for inputs, outputs in pairwise((channels, *widths))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode (N, channels, H, W) as (N, widths[i], H / 2^i, W / 2^i)."""
        features = []
        for i, level in enumerate(self.levels):
            image = level(F.avg_pool2d(image, 2) if i else image)  # (N, widths[i], H/2^i, W/2^i)
            features.append(image)
        return features


class Autoencoder(nn.Module):
    """The encoder, and a decoder of its coarsest features; trained on noisy slices."""

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.encoder = SliceEncoder(channels, widths)
        self.decoder = nn.Sequential(
            *(
                layer
                for coarse, fine in pairwise(reversed(widths))
                for layer in (
                    nn.Conv2d(coarse, fine, 3, padding=1),
                    nn.LeakyReLU(0.2),
                    nn.Upsample(scale_factor=2, mode="bilinear"),
                )
            ),
            nn.Conv2d(widths[0], channels, 3, padding=1),
        )
        self.multiple = 2 ** (len(widths) - 1)

    def forward(self, image: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        return self.decoder(self.encoder(padded)[-1])[..., :height, :width]


class Vgg19Features(nn.Module):
    """Features of VGG19 after the first rectified convolution of each of its five blocks.

    Each channel of a slice is a grey-scale image of range 0 to 1. `load_state_dict` takes weights
    with the names of torchvision's file.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        inputs = 3
        for block in VGG19:
            for i, outputs in enumerate(block):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
                if i == 0:
                    self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        for name, values in {"mean": IMAGENET_MEAN, "sd": IMAGENET_SD}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode (N, C, H, W) as five feature maps (N C, c, h, w), finest first."""
        x = (image.flatten(0, 1)[:, None] - self.mean) / self.sd  # (N C, 3, H, W)
        features = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                features.append(x)
        return features
