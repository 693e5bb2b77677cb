"""Sections about participants: their source, their selection, and the split."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from m2m.options.section import DataPath, Fraction, ParticipantLabel, Range, Section

# Limits of the size of images, 10^9 bytes in memory.
MAX_VOLUME_GB, MAX_SERIES_GB = 4.0, 16.0


class Effects(Section):
    """Effect sizes that age and sex have on simulated participants (sources: docs/methods.md)."""

    fa_per_decade: float = Field(-0.012, description="Change of bundle FA per decade of age")
    ventricle_per_decade: float = Field(0.12, description="Relative change of ventricle volume per decade of age")
    brain_volume_per_decade: float = Field(-0.02, description="Relative change of brain volume per decade of age")
    brain_volume_male: float = Field(
        0.10, description="Difference of brain volume between males and females, relative to females"
    )
    fa_male: float = Field(0.008, description="Difference of bundle FA, males minus females")
    in_t1: bool = Field(True, description="Whether the effects of age and sex on FA also change the T1 contrast")
    t1_share: Fraction = Field(
        0.6,
        description="Fraction of the variance of bundle FA between participants that also changes the T1 contrast",
    )


class Phantom(Section):
    """Participants simulated from the MNI152 anatomy."""

    n_subjects: PositiveInt = Field(24, description="Number of participants")
    seed: NonNegativeInt = Field(2024, description="Random seed")
    t1_spacing_mm: PositiveFloat = Field(2.0, description="Voxel size of the T1")
    dwi_spacing_mm: PositiveFloat = Field(3.0, description="Voxel size of the DWI")
    b_s_per_mm2: PositiveFloat = Field(1000.0, description="b-value of the diffusion-weighted volumes")
    n_directions: Annotated[int, Field(ge=6)] = Field(32, description="Number of diffusion directions")
    n_b0: PositiveInt = Field(2, description="Number of b=0 volumes")
    snr: PositiveFloat = Field(30.0, description="Signal-to-noise ratio of the b=0 volumes")
    t1_snr: PositiveFloat = Field(40.0, description="Signal-to-noise ratio of the T1")
    age_years: Range = Field((20.0, 80.0), description="Range of ages")
    deformation_mm: float = Field(
        6.0, ge=0, description="Typical size of the smooth deformation of the template's anatomy"
    )
    motion_mm: float = Field(2.0, ge=0, description="Largest translation of the head between T1 and DWI")
    motion_deg: float = Field(2.0, ge=0, description="Largest rotation of the head between T1 and DWI")
    oblique_deg: float = Field(
        15.0,
        ge=0,
        le=45,
        description="Largest rotation, in degrees, of the head in the scanner, which the field of view of the T1 "
        "follows, and of the field of view of the DWI. Real scans are often 10 to 20 degrees oblique; 0: no scan is",
    )
    distortion_mm: float = Field(
        0.0,
        ge=0,
        le=10,
        exclude_if=lambda value: value == 0,
        description="Largest displacement of the smooth distortion of the DWI along its phase-encoding axis",
    )
    microstructure_sd: float = Field(
        0.04,
        ge=0,
        description="Relative standard deviation of fibre FA between participants, where FA is 0.75",
    )
    effects: Effects = Effects()


class Cohort(Section):
    """Source of the participants, and which of them take part."""

    source: Literal["phantom", "bids"] = Field(
        "phantom", description="phantom: simulated participants; bids: the dataset in bids_dir"
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

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "bids" and self.bids_dir is None:
            raise ValueError("cohort.source is bids, so cohort.bids_dir must name the dataset")
        return self


class Split(Section):
    """Training, validation and test parts, by subject."""

    seed: int = Field(1, description="Random seed of the split")
    validation: Fraction = Field(0.125, description="Fraction of participants in the validation part")
    test: Fraction = Field(0.33, description="Fraction of participants in the test part")
    age_bins: PositiveInt = Field(4, description="Number of quantile bins of age for the stratification")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation + split.test must be below 1, to leave a training part; "
                f"got {self.validation} + {self.test}"
            )
        return self
