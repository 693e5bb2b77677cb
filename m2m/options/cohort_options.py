"""Sections about participants: their source, their selection, and the split."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.section import DataPath, Fraction, ParticipantLabel, Section
from m2m.options.simulation_options import Phantom, Template

# Limits of the size of images, 10^9 bytes in memory.
MAX_VOLUME_GB, MAX_SERIES_GB = 4.0, 16.0


class Cohort(Section):
    """Source of the participants, and which of them take part."""

    source: Literal["phantom", "template", "bids"] = Field(
        "phantom",
        description="phantom: participants simulated from the MNI152 anatomy; template: made of real T1s and a group's "
        "FA and bundles; bids: the dataset in bids_dir",
    )
    bids_dir: DataPath | None = Field(
        None, description="Folder of a raw BIDS dataset, or of QSIPrep or fMRIPrep derivatives"
    )
    participant_label: tuple[ParticipantLabel, ...] = Field(
        (), description="Labels of the participants to include, such as 01 or sub-01; empty: all participants"
    )
    exclude: DataPath | None = Field(
        None, description="Table (TSV) of participants to exclude, with columns participant_id and reason"
    )
    require: tuple[str, ...] = Field(
        (), description="Columns of participants.tsv that must have a value; participants without one are excluded"
    )
    t1w_of_other_session: bool = Field(
        False,
        description="Whether a session with a DWI and no T1w is paired with the T1w of the nearest session; "
        "off, since a brain may change between sessions",
    )
    check_voxels: bool = Field(True, description="Whether the validation of scans reads all voxels")
    max_volume_gb: PositiveFloat = Field(
        MAX_VOLUME_GB,
        description="Largest T1w or mask, 10^9 bytes in memory (4 a voxel): a head at 0.2 mm takes 3. Larger ones, as "
        "from a wrong header or a file made to fill the memory, are left out",
    )
    max_series_gb: PositiveFloat = Field(
        MAX_SERIES_GB,
        description="Largest diffusion series, 10^9 bytes in memory (4 a voxel): 288 volumes of 1.25 mm take 4.2",
    )
    phantom: Phantom = Phantom()
    template: Template | None = Field(
        None, exclude_if=lambda value: value is None, description="Participants made of real parts, and these parts"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "bids" and self.bids_dir is None:
            raise ValueError("cohort.source is bids, so cohort.bids_dir must name the dataset")
        if self.source == "template" and self.template is None:
            raise ValueError("cohort.source is template, so cohort.template must name anatomies, fa_map and bundles")
        return self

    @property
    def simulation(self) -> Phantom | Template | None:
        """Section of the simulation; None where participants are not simulated."""
        return {"phantom": self.phantom, "template": self.template}.get(self.source)


class Split(Section):
    """Training, validation and test parts, by subject."""

    seed: int = Field(1, description="Random seed of the split")
    validation: Fraction = Field(0.125, description="Fraction of participants in the validation part")
    test: Fraction = Field(0.33, description="Fraction of participants in the test part")
    test_sites: tuple[str, ...] = Field(
        (),
        exclude_if=lambda value: not value,
        description="Values of the column site of participants.tsv: their participants are the test part, for a test "
        "on external sites, and `test` is not used",
    )
    age_bins: PositiveInt = Field(4, description="Number of quantile bins of age for the stratification")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation + split.test must be below 1, to leave a training part; "
                f"got {self.validation} + {self.test}"
            )
        return self
