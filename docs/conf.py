"""The site of the documentation: `make site` builds it from docs/ and from the docstrings.

The Markdown is read as it stands. Pages of the API are written to docs/api, one for each room of the
package, from the numpydoc docstrings. What is read needs no network: fonts and scripts are in the site.
"""

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

import m2m
from m2m.cli import COMMANDS

ROOT = Path(__file__).parents[1]

project = "m2m"
author = "the authors of m2m"
release = m2m.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
smartquotes = False  # --config is a flag, not a dash
highlight_language = "none"  # an indented block is a file, a command or what it printed
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "ignore-module-all": True}  # a name is described where it is defined
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them, with shapes and units
autodoc_use_type_comments = False
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # types are text: not looked up as names of classes
napoleon_custom_sections = [("Attributes", "params_style")]
toc_object_entries = False

html_theme = "furo"
html_title = f"m2m {release}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def to_the_site(link: str, page: str) -> str:
    """Lead a link of the repository to its page of the site.

    Parameters
    ----------
    link : str
        As written in the Markdown, relative to `page`.
    page : str
        Path of the Markdown below docs/.

    Returns
    -------
    str
        To the first page for README.md, to the API for a module; any other link to a page as it is.
    """
    path, mark, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), path))
    if target == "README.md":
        return f"/index.md{mark}{anchor}"
    if target.endswith(".md") and not target.startswith("docs/"):
        return f"path:{link}"  # a file to download, not a page
    if target.startswith("m2m/") and target.endswith(".py"):
        return "#" + target.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return link


def on_source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Fit a page of the repository to the site: its links, and the stages' place in the contents."""
    page = f"{docname}.md"
    content[0] = re.sub(r"\]\((?!\w+:|#)([^)\s]+)\)", lambda m: f"]({to_the_site(m[1], page)})", content[0])
    inside = {"stages/README": "*/*", "experiments/README": "[a-z]*"}
    if docname in inside:
        content[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{inside[docname]}\n```\n"


def api_page(folder: Path) -> str:
    """Write the page of a package: its modules, then the packages inside it (reStructuredText)."""
    name = ".".join(folder.relative_to(ROOT).parts)
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    inside = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    text = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n\n"
    if inside:
        text += ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {name}.{one}\n" for one in inside) + "\n"
    for module in modules:
        title = f"{name}.{module}"
        text += f"{title}\n{'-' * len(title)}\n\n.. automodule:: {title}\n\n"
    return text


def write_api(app: Sphinx) -> None:
    """Write docs/api; a page that did not change keeps its time, so that it is not read again."""
    pages = {path.parent: api_page(path.parent) for path in (ROOT / "m2m").rglob("__init__.py")}
    for folder, text in pages.items():
        path = Path(app.srcdir, "api", ".".join(folder.relative_to(ROOT).parts) + ".rst")
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def skips(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out commands, whose stages have pages, and fields of tuples, which their class describes."""
    if (getattr(member, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    target = f"{getattr(member, '__module__', '')}:{getattr(member, '__qualname__', '')}"
    return True if target in {function for function, _ in COMMANDS.values()} else None


def dashes(app: Sphinx, what: str, name: str, member: object, options: object, lines: list[str]) -> None:
    """Write a dash between a parameter and its text, where napoleon leaves two hyphens."""
    lines[:] = [line.replace(" -- ", " – ") for line in lines]


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("builder-inited", write_api)
    app.connect("source-read", on_source_read)
    app.connect("autodoc-skip-member", skips)
    app.connect("autodoc-process-docstring", dashes)
