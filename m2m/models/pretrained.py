"""Weights that are installed with m2m: trained models that `m2m translate` uses by default."""

from pathlib import Path

import m2m

FOLDER = Path(m2m.__file__).parent / "weights"


def installed() -> dict[str, Path]:
    """Find the installed weights, by name, such as ``t1-fa``.

    Returns
    -------
    dict of str to Path
        ``model.safetensors``; ``model.json`` and ``model_card.md`` are beside it.
    """
    return {path.parent.name: path for path in sorted(FOLDER.glob("*/model.safetensors"))}
