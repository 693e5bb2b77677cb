"""CycleGAN (Zhu et al. 2017, arXiv:1703.10593)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from m2m.options.family import Windowed
from m2m.options.model_parts import PatchGanOptions, UNetwork
from m2m.options.training_options import SliceWindow, Weight


class CycleGan(Windowed):
    """Two U-Nets, two PatchGANs, unpaired slices (Zhu et al. 2017, arXiv:1703.10593)."""

    implementation: ClassVar[str] = "m2m.models.families.cyclegan_model"
    sentence: ClassVar[str] = (
        "CycleGAN [@zhu2017]: two of MONAI's U-Nets and two patch discriminators, trained on unpaired slices"
    )
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}
    one_channel: ClassVar[bool] = True

    family: Literal["cyclegan"] = "cyclegan"
    network: UNetwork = UNetwork(context=1)
    discriminator: PatchGanOptions = PatchGanOptions()
    cycle: Weight = Field(
        10.0, description="Weight of the cycle-consistency loss; the adversarial losses have weight 1"
    )
    identity: Weight = Field(5.0, description="Weight of the identity loss; the adversarial losses have weight 1")

    @model_validator(mode="after")
    def _check_labels_from(self) -> Self:
        if self.correct_labels:
            raise ValueError("cyclegan is trained on unpaired slices: correct_labels is not possible")
        return self

    def takes(self, inputs: SliceWindow) -> bool:
        """As `Family.takes`: its slices are translated in both directions, one at a time."""
        return inputs.context == 1

    @model_validator(mode="after")
    def _check_context(self) -> Self:
        if self.network.context != 1 or self.training.batch_size < 2:
            raise ValueError(
                "cyclegan translates single slices in both directions (network.context 1), and takes "
                "unpaired slices from the batch (batch_size 2 or more)"
            )
        return self


SECTION = CycleGan
