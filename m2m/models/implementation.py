"""The module that implements a family, imported when needed: PyTorch takes seconds to load."""

import importlib
from types import ModuleType

from m2m.options import Family


def implementation(options: Family) -> ModuleType:
    """Module of `m2m.models.families` of a family's section."""
    return importlib.import_module(options.implementation)
