"""Records of interchangeable backends, looked up by the name in the configuration.

A preprocessing backend, a tracker or a mapper of streamlines is a function in its own module, and a
record with what the workflow and the methods text need to know about it.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """Record of one backend.

    Attributes
    ----------
    function : str
        ``module:function`` that does the work, imported when it is called.
    commands : callable
        From a section of options to the external programs that it needs.
    sentence : callable
        From a section of options to a sentence of the methods, with citation keys.
    suite : str
        Name of the software that its programs belong to.
    programs : tuple of str
        All names that can occur among a status file's ``programs``.
    environment : str
        File of `envs/` that installs them.
    """

    function: str
    commands: Callable[[Any], tuple[str, ...]]
    sentence: Callable[[Any], str]
    suite: str = ""
    programs: tuple[str, ...] = ()
    environment: str = "m2m"

    @property
    def module(self) -> str:
        """Name of the function's module."""
        return self.function.partition(":")[0]

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        name = self.function.partition(":")[2]
        return getattr(importlib.import_module(self.module), name)


def no_commands(section: Any) -> tuple[str, ...]:
    """External programs of a backend that needs none."""
    return ()


def listed(terms: Sequence[str]) -> str:
    """Join terms as in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(terms[:-1]), terms[-1])))
