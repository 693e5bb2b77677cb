"""A 2.5D U-Net: regression, without a discriminator."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from m2m.options.family import Windowed
from m2m.options.model_parts import UNetwork
from m2m.options.training_options import Weight


class UNet(Windowed):
    """2.5D U-Net: regression by L1, SSIM and mean squared error, without a discriminator."""

    implementation: ClassVar[str] = "m2m.models.families.unet_model"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}

    family: Literal["unet"] = "unet"
    network: UNetwork = UNetwork()
    l1: Weight = Field(1.0, description="Weight of L1, the mean absolute error")
    ssim: Weight = Field(1.0, description="Weight of 1 - SSIM")
    mse: Weight = Field(
        0.0, exclude_if=lambda value: value == 0, description="Weight of the mean squared error inside the target mask"
    )

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """Description for the methods, with the terms of its loss."""
        terms = {"L1": self.l1, "SSIM [@wang2004]": self.ssim, "the mean squared error": self.mse}
        return f"MONAI's U-Net, trained on {' and '.join(name for name, weight in terms.items() if weight)}"


SECTION = UNet
