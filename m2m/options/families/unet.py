"""A 2.5D U-Net: regression, without a discriminator."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from m2m.options.family import Windowed
from m2m.options.model_parts import UNetwork
from m2m.options.training_options import Weight


class UNet(Windowed):
    """2.5D U-Net with L1 and SSIM: regression, without a discriminator."""

    implementation: ClassVar[str] = "m2m.models.families.unet_model"
    sentence: ClassVar[str] = "MONAI's U-Net, trained on L1 and SSIM [@wang2004]"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}

    family: Literal["unet"] = "unet"
    network: UNetwork = UNetwork()
    l1: Weight = Field(1.0, description="Weight of L1, the mean absolute error")
    ssim: Weight = Field(1.0, description="Weight of 1 - SSIM")
    mse: Weight = Field(
        0.0, exclude_if=lambda value: value == 0, description="Weight of the mean squared error inside the target mask"
    )


SECTION = UNet
