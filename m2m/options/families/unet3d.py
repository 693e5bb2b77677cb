"""A U-Net of volumes: regression, without a discriminator."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from m2m.options.family import Listed, Windowed
from m2m.options.model_parts import UNetwork
from m2m.options.training_options import SliceWindow, Training, Weight


class StackUNetwork(UNetwork):
    """U-Net of five levels, MONAI's BasicUNet in three dimensions."""

    context: Literal[1] = Field(1, description="Its slices have their neighbours in the stack")
    depth: PositiveInt = Field(
        32, multiple_of=16, description="Slices of a stack: in training a part of the volume, in translation a window"
    )
    overlap: float = Field(
        0.5, ge=0, lt=1, description="Fraction of a window that the next one covers too, in translation"
    )


class UNet3D(Windowed):
    """U-Net of stacks of slices, parts of the volume: L1, SSIM and mean squared error, without a discriminator."""

    implementation: ClassVar[str] = "m2m.models.families.unet3d_model"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}

    family: Literal["unet3d"] = "unet3d"
    network: StackUNetwork = StackUNetwork()
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        ("axial",), description="Orientations in which stacks are cut, for training and translation"
    )
    training: Training = Training(batch_size=2)
    l1: Weight = Field(1.0, description="Weight of L1, the mean absolute error")
    ssim: Weight = Field(1.0, description="Weight of 1 - SSIM of slices")
    mse: Weight = Field(0.0, description="Weight of the mean squared error inside the target mask")

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """Description for the methods, with the terms of its loss."""
        terms = {"L1": self.l1, "SSIM [@wang2004]": self.ssim, "the mean squared error": self.mse}
        named = " and ".join(name for name, weight in terms.items() if weight)
        return f"MONAI's U-Net in three dimensions [@cicek2016], trained on {named}"

    def network_sentence(self, listed: Listed) -> str:
        """As `Trained.network_sentence`."""
        return (
            f"A volume was translated in stacks of slices that overlapped by {self.network.overlap:.0%} and were "
            "averaged with Gaussian weights [@isensee2021]."
        )

    @property
    def stack(self) -> int:
        """As `Trained.stack`."""
        return self.network.depth

    def takes(self, inputs: SliceWindow) -> bool:
        """As `Family.takes`: its slices have all neighbours of the stack."""
        return inputs.context == 1 and super().takes(inputs)


SECTION = UNet3D
