"""Registry of all families of models, and the type of a model's section.

Each module defines the section of one family as `SECTION`: its options, and the interface that the
rest of m2m uses (`m2m.options.family`). Its networks and objective, or its fit, are in the module
that the section names as its `implementation`.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from m2m.options.families import (
    atlas,
    bridge,
    cyclegan,
    fgdl_cms,
    fgdl_sr,
    macro2micro,
    macro2micro_2023,
    mean,
    pix2pix,
    resvit,
    t1,
    unet,
    unet3d,
    upsampled,
)
from m2m.options.family import Family

FAMILIES: dict[str, ModuleType] = {
    "macro2micro": macro2micro,
    "macro2micro-2023": macro2micro_2023,
    "pix2pix": pix2pix,
    "cyclegan": cyclegan,
    "unet": unet,
    "unet3d": unet3d,
    "resvit": resvit,
    "bridge": bridge,
    "fgdl-cms": fgdl_cms,
    "fgdl-sr": fgdl_sr,
    "mean": mean,
    "atlas": atlas,
    "t1": t1,
    "upsampled": upsampled,
}


def any_of(families: Mapping[str, ModuleType]) -> Any:
    """Type of a section of any of these families, chosen by its key ``family``."""
    sections = tuple(module.SECTION for module in families.values())
    return Annotated[Union[sections], Field(discriminator="family")]  # noqa: UP007


Model = any_of(FAMILIES)


def section_of(record: Mapping[str, Any]) -> Family:
    """Section of a trained model, from its record (model.json).

    Raises
    ------
    ValidationError
        There is no such family, or its options do not fit.
    """
    family = {"family": record["family"]} if "family" in record else {}
    return TypeAdapter(Model).validate_python({**record["options"], **family})
