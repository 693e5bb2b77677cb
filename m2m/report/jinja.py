"""Templates of the package: HTML pages and the methods text."""

from jinja2 import Environment, PackageLoader, StrictUndefined

import m2m


def templates(autoescape: bool = True) -> Environment:
    """Environment with the package's templates; a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("m2m.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["how_to_install"] = m2m.how_to_install
    return environment
