"""pix2pix (Isola et al. 2017, arXiv:1611.07004)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from m2m.options.family import Windowed
from m2m.options.model_parts import PatchGanOptions, UNetwork
from m2m.options.training_options import Weight


class Pix2Pix(Windowed):
    """U-Net, PatchGAN with the source as input, L1 (Isola et al. 2017, arXiv:1611.07004)."""

    implementation: ClassVar[str] = "m2m.models.families.pix2pix_model"
    sentence: ClassVar[str] = "pix2pix [@isola2017]: MONAI's U-Net and a patch discriminator conditioned on the source"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}

    family: Literal["pix2pix"] = "pix2pix"
    network: UNetwork = UNetwork(context=1)
    discriminator: PatchGanOptions = PatchGanOptions()
    l1: Weight = Field(100.0, description="Weight of L1; the adversarial loss has weight 1")


SECTION = Pix2Pix
