"""NiiVue, the viewer of volumes in a browser, as one JavaScript module from an installed package.

Nothing is fetched and nothing is kept in the repository: the module comes from the Python package
ipyniivue, or from a file of npm's @niivue/niivue that the configuration names.

References
----------
NiiVue, https://github.com/niivue/niivue, BSD-2-Clause.
"""

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from m2m.io.errors import DataError

PACKAGE = "ipyniivue"
# ipyniivue's module exports a widget only. Its one instance of NiiVue's class is made in
# `initialize`; names there are shortened by its build, so they are looked up.
_EXPORTED = re.compile(r"export\s*\{[^{}]*\bNiivue\s*[,}]|\bas Niivue\b")
_MADE = re.compile(r"initialize\(\{model:[\w$]+\}\).{0,400}?=\s*new ([\w$]+)\([\w$]+\)", re.S)


@dataclass(frozen=True)
class Bundle:
    """NiiVue's module.

    Attributes
    ----------
    module : str
        JavaScript, an ES module that exports the class `Niivue`.
    source : str
        Where it comes from, with its version where that is known.
    licence : str
        Text that goes with every copy.
    """

    module: str
    source: str
    licence: str


def find_bundle(chosen: Path | None) -> Bundle | None:
    """Read NiiVue's module from the file chosen, or else from ipyniivue; None where neither is.

    Raises
    ------
    DataError
        The file chosen is missing, or a module does not hold the class.
    """
    if chosen is not None:
        if not chosen.is_file():
            raise DataError(
                "is no file", file=chosen,
                remedy="name dist/index.js of npm's @niivue/niivue in report.viewer_bundle",
            )  # fmt: skip
        licence = chosen.parents[1] / "LICENSE"
        text = licence.read_text(encoding="utf-8") if licence.is_file() else "BSD-2-Clause"
        return Bundle(with_class(chosen), f"the file {chosen.name}", text)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    version = importlib.metadata.version(PACKAGE)
    licence = importlib.metadata.distribution(PACKAGE).read_text("licenses/LICENSE")
    path = Path(spec.origin).parent / "static" / "widget.js"
    return Bundle(with_class(path), f"{PACKAGE} {version}", licence or "BSD-2-Clause")


def with_class(path: Path) -> str:
    """Read a module and let it export the class `Niivue` where it does not.

    Raises
    ------
    DataError
        The class is not found.
    """
    text = path.read_text(encoding="utf-8")
    if _EXPORTED.search(text):
        return text
    if made := _MADE.search(text):
        return f"{text}\nexport{{{made[1]} as Niivue}};\n"
    raise DataError(
        "does not hold NiiVue's class where it is looked for", file=path,
        remedy=f"install {PACKAGE} as constraints.txt pins it, or name dist/index.js of npm's "
        "@niivue/niivue in report.viewer_bundle",
    )  # fmt: skip
