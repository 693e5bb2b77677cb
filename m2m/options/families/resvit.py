"""ResViT: residual vision transformer (Dalmaz et al. 2022, doi:10.1109/TMI.2022.3167808)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from m2m.options.family import Listed, Windowed
from m2m.options.model_parts import PatchGanOptions
from m2m.options.training_options import SliceWindow, Training, Weight


class ResVitNetwork(SliceWindow):
    """Encoder, bottleneck of aggregated residual transformer blocks, decoder."""

    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (16, 32, 64), description="Channels at full, half and quarter resolution; the last are those of the bottleneck"
    )
    blocks: PositiveInt = Field(9, description="Blocks of the bottleneck")
    transformers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 5), description="Which of the blocks have a transformer, from 0; all share its weights"
    )
    layers: PositiveInt = Field(4, description="Layers of the transformer")
    heads: PositiveInt = Field(4, description="Heads of its attention")
    reduce: PositiveInt = Field(
        1, description="Halvings before the transformer, whose tokens are then pixels of 8 (2: of 16) of the slice"
    )


class ResVit(Windowed):
    """Residual vision transformer, PatchGAN with the source as input, L1 (doi:10.1109/TMI.2022.3167808)."""

    implementation: ClassVar[str] = "m2m.models.families.resvit_model"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}
    sentence: ClassVar[str] = (
        "the residual vision transformer ResViT [@dalmaz2022; @dosovitskiy2021], after its description, and MONAI's "
        "patch discriminator conditioned on the source"
    )

    family: Literal["resvit"] = "resvit"
    network: ResVitNetwork = ResVitNetwork(context=1)
    discriminator: PatchGanOptions = PatchGanOptions()
    training: Training = Training(learning_rate=5e-4)
    l1: Weight = Field(100.0, description="Weight of L1; the adversarial loss has weight 1")

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        network = self.network
        if network.widths[-1] % (4 * network.heads) and network.transformers:
            # A quarter of the token's features for the sine and the cosine of row and column each.
            raise ValueError(
                f"network.widths ends in {network.widths[-1]}, which must be a multiple of 4 * network.heads, "
                f"{4 * network.heads}"
            )
        if unknown := [i for i in network.transformers if i >= network.blocks]:
            raise ValueError(f"network.transformers names block {unknown[0]}, of {network.blocks} from 0")
        return self

    def network_sentence(self, listed: Listed) -> str:
        """As `Trained.network_sentence`."""
        network = self.network
        widths = listed([str(width) for width in network.widths])
        with_them = f"{len(network.transformers)} of them" if network.transformers else "none of them"
        return (
            f"Its levels had {widths} channels, its bottleneck {network.blocks} residual blocks, {with_them} with the "
            f"transformer of {network.layers} layers."
        )


SECTION = ResVit
