"""NiiVue, a viewer of volumes in a browser, as one JavaScript module from an installed package.

Nothing is downloaded and no copy is in the repository: the module is read from the Python package
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
# ipyniivue's module exports only a widget, which makes its instance of NiiVue's class in
# `initialize`. The build shortens the name of the class, so it is searched for.
_EXPORTED = re.compile(r"export\s*\{[^{}]*\bNiivue\s*[,}]|\bas Niivue\b")
_INSTANCE = re.compile(r"initialize\(\{model:[\w$]+\}\).{0,400}?=\s*new ([\w$]+)\([\w$]+\)", re.S)


@dataclass(frozen=True)
class Bundle:
    """NiiVue's module.

    Attributes
    ----------
    module : str
        JavaScript, an ES module that exports the class `Niivue`.
    source : str
        Package and version, or name of the file.
    licence : str
        Text of the licence, which every copy must contain.
    """

    module: str
    source: str
    licence: str


def find_bundle(chosen: Path | None) -> Bundle | None:
    """Read NiiVue's module from the chosen file, or else from ipyniivue; None where neither exists.

    Raises
    ------
    DataError
        The chosen file is missing, or the module does not contain the class.
    """
    if chosen is not None:
        if not chosen.is_file():
            raise DataError(
                "is no file", file=chosen, remedy="name dist/index.js of npm's @niivue/niivue in report.viewer_bundle"
            )
        path = chosen.parents[1] / "LICENSE"
        text = path.read_text(encoding="utf-8") if path.is_file() else "BSD-2-Clause"
        return Bundle(with_class(chosen), f"the file {chosen.name}", text)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    version = importlib.metadata.version(PACKAGE)
    licence = importlib.metadata.distribution(PACKAGE).read_text("licenses/LICENSE")
    path = Path(spec.origin).parent / "static" / "widget.js"
    return Bundle(with_class(path), f"{PACKAGE} {version}", licence or "BSD-2-Clause")


def with_class(path: Path) -> str:
    """Read a module; add an export of the class `Niivue` where it lacks one.

    Raises
    ------
    DataError
        The class is not found.
    """
    text = path.read_text(encoding="utf-8")
    if _EXPORTED.search(text):
        return text
    if instance := _INSTANCE.search(text):
        return f"{text}\nexport{{{instance[1]} as Niivue}};\n"
    raise DataError(
        "does not contain NiiVue's class where it is expected",
        file=path,
        remedy=f"install {PACKAGE} as constraints.txt pins it, or name dist/index.js of npm's "
        "@niivue/niivue in report.viewer_bundle",
    )
