"""CycleGAN (Zhu et al. 2017, arXiv:1703.10593)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from m2m.options.family import Windowed
from m2m.options.model_parts import PatchJudge, UNetwork
from m2m.options.training_options import Weight


class CycleGan(Windowed):
    """Two U-Nets, two PatchGANs, slices unpaired (Zhu et al. 2017, arXiv:1703.10593)."""

    implementation: ClassVar[str] = "m2m.models.families.cyclegan_model"
    sentence: ClassVar[str] = (
        "CycleGAN [@zhu2017]: two of MONAI's U-Nets and two patch discriminators, never shown a "
        "pair"
    )
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}
    one_channel: ClassVar[bool] = True

    family: Literal["cyclegan"] = "cyclegan"
    network: UNetwork = UNetwork(context=1)
    discriminator: PatchJudge = PatchJudge()
    cycle: Weight = Field(10.0, description="Weight beside the adversarial terms' 1")
    identity: Weight = Field(5.0, description="Of what is already in the target's domain")

    @model_validator(mode="after")
    def _labels_are_of_other_people(self) -> Self:
        if self.correct_labels:
            raise ValueError(
                "cyclegan never sees a slice's own target: correct_labels is not for it"
            )
        return self

    @model_validator(mode="after")
    def _one_slice(self) -> Self:
        if self.network.context != 1 or self.training.batch_size < 2:
            raise ValueError(
                "cyclegan translates single slices both ways (network.context 1), and draws its "
                "unpaired slices from the batch (batch_size 2 or more)"
            )
        return self


SECTION = CycleGan
