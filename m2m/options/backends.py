"""One of several programs that do the same: a record, looked up by the name that is chosen.

A chain of corrections, a way to track or to map streamlines is a function of its own module, and a
record of what the workflow and the methods' text must know of it.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """What is known of one choice.

    Attributes
    ----------
    function : str
        ``module:function`` that does the work, imported when it is called.
    commands : callable
        External programs that a section of options asks for.
    sentence : callable
        Says for the methods what was done with a section's options, with citation keys.
    suite : str
        What its programs belong to, by the name that a reader knows.
    programs : tuple of str
        All that may be among a status's ``programs``.
    environment : str
        File of `envs/` that brings them.
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
    """External programs of what needs none."""
    return ()


def listed(words: Sequence[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
