"""Every family of the registry that is trained in steps, small enough for a test.

A family that is not named here is tested with its own defaults.
"""

from m2m.options import FAMILIES, Trained

UNET = {"features": (4, 4, 4, 4, 4)}
DISCRIMINATOR = {"width": 4, "layers": 2}
DISCRIMINATORS = {"width": 4, "crops": 2, "crop_size": 8}
SMALL = {
    "macro2micro": {"network": {"widths": (6, 8), "context": 3}, "discriminators": DISCRIMINATORS},
    "macro2micro-2023": {"discriminators": DISCRIMINATORS},
    "pix2pix": {"network": UNET | {"context": 1}, "discriminator": DISCRIMINATOR},
    "cyclegan": {"network": UNET | {"context": 1}, "discriminator": DISCRIMINATOR},
    "unet": {"network": UNET | {"context": 3}},
    "unet3d": {"network": UNET | {"depth": 16}},
    "resvit": {
        "network": {"widths": (4, 4, 8), "heads": 2, "blocks": 2, "transformers": (0,), "layers": 1},
        "discriminator": DISCRIMINATOR,
    },
    "bridge": {"network": {"widths": (8, 8)}, "sampling": {"steps": 2, "samples": 2}},
    "fgdl-cms": {
        "network": {"widths": (4, 8), "heads": (1, 2), "blocks": 1},
        "discriminator": {"width": 2},
        "correct_labels": False,
    },
    "fgdl-sr": {
        "network": {"width": 4, "heads": 2, "blocks": 1},
        "discriminator": {"width": 2},
    },
}
TRAINED = tuple(name for name, module in FAMILIES.items() if module.SECTION.trained)
# Families that need neither another model nor a low-resolution target.
ALONE = tuple(
    name for name in TRAINED if not FAMILIES[name].SECTION.uses_low_res and FAMILIES[name].SECTION().starts_from is None
)


def small(family: str, **further: object) -> Trained:
    """Options of a small model of a family; `further` are options of its section."""
    section = FAMILIES[family].SECTION
    return section.model_validate({**SMALL.get(family, {}), **further})
