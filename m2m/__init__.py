"""m2m: predict brain microstructure from T1 scans, and test the predictions."""

__version__ = "0.1.0"
# What is installed: the name of the package here and of the command, m2m, is another project's on PyPI.
DISTRIBUTION = "macro2micro-mri"
# What made a file, as BIDS has it in sidecars and dataset_description.json.
GENERATED_BY = ({"Name": "m2m", "Version": __version__},)


def how_to_install(extra: str) -> str:
    """Write how an extra of pyproject.toml is installed, for messages; it is not published yet.

    Parameters
    ----------
    extra : str
        For example ``report``.
    """
    return f"install the extra {extra} of {DISTRIBUTION}: pip install '.[{extra}]' in a checkout of m2m"
