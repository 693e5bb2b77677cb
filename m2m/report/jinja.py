"""The package's templates, of pages and of the methods in words."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(autoescape: bool = True) -> Environment:
    """Templates of the package; a value that is missing is an error."""
    return Environment(
        loader=PackageLoader("m2m.report"), autoescape=autoescape,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
