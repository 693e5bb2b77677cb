"""Import the module that implements a family only when needed: PyTorch takes seconds to load."""

import importlib
from types import ModuleType

from m2m.options import Family


def implementation(options: Family) -> ModuleType:
    """Import the module of `m2m.models.families` that a family's section names."""
    return importlib.import_module(options.implementation)
