"""Sections about people: who they are, and how they are divided."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from m2m.options.section import DataPath, Fraction, Label, Range, Section


class Effects(Section):
    """Effect sizes that age and sex have on simulated people (sources: docs/methods.md)."""

    fa_per_decade: float = Field(-0.012, description="Change of bundle FA per decade of age")
    ventricle_per_decade: float = Field(0.12, description="Relative growth of the ventricles")
    brain_volume_per_decade: float = Field(-0.02, description="Relative change of brain volume")
    brain_volume_male: float = Field(0.10, description="Relative volume of male over female brains")
    fa_male: float = Field(0.008, description="FA of male minus female bundles")
    in_t1: bool = Field(
        True, description="Whether what age and sex do to FA shows in T1's contrast too"
    )
    t1_share: Fraction = Field(
        0.6, description="Part of the variance of bundle FA between people that shows in T1"
    )


class Phantom(Section):
    """People simulated from the MNI152 anatomy."""

    n_subjects: PositiveInt = 24
    seed: NonNegativeInt = 2024
    t1_spacing_mm: PositiveFloat = 2.0
    dwi_spacing_mm: PositiveFloat = 3.0
    b_s_per_mm2: PositiveFloat = 1000.0
    n_directions: Annotated[int, Field(ge=6)] = 32
    n_b0: PositiveInt = 2
    snr: PositiveFloat = 30.0
    t1_snr: PositiveFloat = 40.0
    age_years: Range = (20.0, 80.0)
    deformation_mm: float = Field(6.0, ge=0, description="Typical size of the smooth deformation")
    motion_mm: float = Field(2.0, ge=0, description="Largest shift of the head between T1 and DWI")
    motion_deg: float = Field(2.0, ge=0, description="Largest turn of the head between T1 and DWI")
    distortion_mm: float = Field(
        0.0,
        ge=0,
        le=10,
        exclude_if=lambda value: value == 0,
        description="Largest shift of the head in the DWI along its phase-encoding axis, smooth",
    )
    microstructure_sd: float = Field(
        0.04, ge=0, description="Relative spread of fibre FA between people, where FA is 0.75"
    )
    effects: Effects = Effects()


class Cohort(Section):
    """Where people come from, and who takes part."""

    source: Literal["phantom", "bids"] = "phantom"
    bids_dir: DataPath | None = Field(None, description="Raw BIDS or QSIPrep/fMRIPrep derivatives")
    participant_label: tuple[Label, ...] = Field((), description="Only these; empty: everybody")
    exclude: DataPath | None = Field(None, description="TSV: participant_id, reason")
    require: tuple[str, ...] = Field((), description="Columns of participants.tsv that must be set")
    check_voxels: bool = Field(True, description="Read every voxel when scans are validated")
    phantom: Phantom = Phantom()

    @model_validator(mode="after")
    def _source_has_its_folder(self) -> Self:
        if self.source == "bids" and self.bids_dir is None:
            raise ValueError("cohort.source is bids, so cohort.bids_dir must name the dataset")
        return self


class Split(Section):
    """Training, validation and test parts, by subject."""

    seed: int = 1
    validation: Fraction = 0.125
    test: Fraction = 0.33
    age_bins: PositiveInt = Field(4, description="Quantile bins of age for the stratification")

    @model_validator(mode="after")
    def _leaves_people_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation + split.test must leave a part to train on, got "
                f"{self.validation} + {self.test}"
            )
        return self
