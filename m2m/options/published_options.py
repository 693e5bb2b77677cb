"""Section about a published table whose values stand beside those of this study."""

from pydantic import Field

from m2m.options.section import Name, Section


class Published(Section):
    """A published table: its source, how its values were made, and the values."""

    source: str = Field(description="Citation of the table")
    data: str = Field(description="Data set and participants")
    access: str = Field(description="Where the data are to be had, and on what terms")
    preprocessing: str = Field(description="Preprocessing of the source")
    split: str = Field(description="Training, validation and test participants of the source")
    definitions: dict[str, str] = Field({}, description="Definition of each metric in the source, by its name")
    differences: str = Field(description="What this study does otherwise, and what could not be verified")
    values: dict[Name, dict[str, dict[str, dict[str, str]]]] = Field(
        description="The values, as the source states them: by task of this study, region, metric and system. Regions "
        "and metrics are those of summary.tsv; a metric that m2m does not compute is shown without a value of its own"
    )
