"""A U-Net of slices: regression, without an opponent."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from m2m.options.family import Windowed
from m2m.options.model_parts import UNetwork
from m2m.options.training_options import Weight


class UNet(Windowed):
    """2.5D U-Net with L1 and SSIM: regression, without an opponent."""

    implementation: ClassVar[str] = "m2m.models.families.unet_model"
    sentence: ClassVar[str] = "MONAI's U-Net, trained on L1 and SSIM [@wang2004]"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}

    family: Literal["unet"] = "unet"
    network: UNetwork = UNetwork()
    l1: Weight = 1.0
    ssim: Weight = 1.0


SECTION = UNet
