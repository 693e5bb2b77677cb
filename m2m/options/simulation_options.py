"""Sections of simulated participants: those made from the MNI152 anatomy, and those made of real parts."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.section import DataPath, Fraction, Name, Range, Section


class FibreEffects(Section):
    """Effect sizes that age and sex have on the fibres of simulated participants (sources: docs/methods.md)."""

    fa_per_decade: float = Field(-0.012, description="Change of bundle FA per decade of age")
    fa_male: float = Field(0.008, description="Difference of bundle FA, males minus females")
    in_t1: bool = Field(True, description="Whether the effects of age and sex on FA also change the T1 contrast")
    t1_share: Fraction = Field(
        0.6,
        description="Fraction of the variance of bundle FA between participants that also changes the T1 contrast",
    )


class Effects(FibreEffects):
    """Effect sizes that age and sex have on simulated participants (sources: docs/methods.md)."""

    ventricle_per_decade: float = Field(0.12, description="Relative change of ventricle volume per decade of age")
    brain_volume_per_decade: float = Field(-0.02, description="Relative change of brain volume per decade of age")
    brain_volume_male: float = Field(
        0.10, description="Difference of brain volume between males and females, relative to females"
    )


class Simulation(Section):
    """Options that all simulated participants have: their number, their scans, and how they differ."""

    n_subjects: PositiveInt = Field(24, description="Number of participants")
    seed: NonNegativeInt = Field(2024, description="Random seed")
    t1_spacing_mm: PositiveFloat = Field(2.0, description="Voxel size of the T1")
    dwi_spacing_mm: PositiveFloat = Field(3.0, description="Voxel size of the DWI")
    b_s_per_mm2: PositiveFloat = Field(1000.0, description="b-value of the diffusion-weighted volumes")
    n_directions: Annotated[int, Field(ge=6)] = Field(32, description="Number of diffusion directions")
    n_b0: PositiveInt = Field(2, description="Number of b=0 volumes")
    snr: PositiveFloat = Field(30.0, description="Signal-to-noise ratio of the b=0 volumes")
    t1_snr: PositiveFloat = Field(40.0, description="Signal-to-noise ratio of the T1")
    deformation_mm: NonNegativeFloat = Field(
        6.0, description="Typical size of a smooth random deformation of the anatomy"
    )
    motion_mm: NonNegativeFloat = Field(2.0, description="Largest translation of the head between T1 and DWI")
    motion_deg: NonNegativeFloat = Field(2.0, description="Largest rotation of the head between T1 and DWI")
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
    microstructure_sd: NonNegativeFloat = Field(
        0.04, description="Relative standard deviation of fibre FA between participants, where FA is 0.75"
    )
    effects: FibreEffects = FibreEffects()

    @property
    def sessions(self) -> tuple[str, ...]:
        """Sessions of each participant; none where there is one visit."""
        return ()


class Visits(Section):
    """Several visits of each simulated participant, each with its own T1 and DWI."""

    number: Annotated[int, Field(ge=2)] = Field(2, description="Visits of each participant, sessions 1, 2, …")
    years: NonNegativeFloat = Field(2.0, description="Years between two visits; 0: all on one day")
    fa_per_year_sd: NonNegativeFloat = Field(
        0.005,
        description="Standard deviation between participants of the annual change of bundle FA, which comes on top of "
        "that of their age; its part in the T1 contrast is `effects.t1_share`",
    )


class Scanner(Section):
    """What one of several scanners does otherwise than `cohort.phantom` says; null: as there."""

    dwi_spacing_mm: PositiveFloat | None = Field(None, description="Voxel size of the DWI")
    b_s_per_mm2: PositiveFloat | None = Field(None, description="b-value of the diffusion-weighted volumes")
    n_directions: Annotated[int, Field(ge=6)] | None = Field(None, description="Number of diffusion directions")
    snr: PositiveFloat | None = Field(None, description="Signal-to-noise ratio of the b=0 volumes")
    t1_contrast: PositiveFloat | None = Field(None, description="Contrast of the T1")
    age_years: Range | None = Field(None, description="Range of ages of its participants")


class Phantom(Simulation):
    """Participants simulated from the MNI152 anatomy."""

    age_years: Range = Field((20.0, 80.0), description="Range of ages, at the first visit")
    effects: Effects = Effects()
    t1_contrast: PositiveFloat = Field(
        1.0,
        exclude_if=lambda value: value == 1,
        description="Exponent of the T1's intensities, relative to white matter: above 1, grey matter is darker",
    )
    scanners: dict[Name, Scanner] = Field(
        {},
        exclude_if=lambda value: not value,
        description="Scanners by name: each participant is assigned to one at random, which is the column site of "
        "participants.tsv; empty: one scanner, and no such column",
    )
    visits: Visits | None = Field(
        None, exclude_if=lambda value: value is None, description="Several visits; empty: one, without a session"
    )

    def of_scanner(self, name: str | None) -> "Phantom":
        """Section of the participants of one scanner; of all where there are no scanners."""
        return self.model_copy(update=self.scanners[name].model_dump(exclude_none=True)) if name else self

    @property
    def sessions(self) -> tuple[str, ...]:
        """Sessions of each participant; none where there is one visit."""
        return tuple(f"ses-{number + 1}" for number in range(self.visits.number)) if self.visits else ()


class T1Variation(Section):
    """How a T1 made from a real one differs from it; 0 switches a change off."""

    tone: NonNegativeFloat = Field(
        0.25, description="Standard deviation of the logarithms of the slopes of a random monotone curve of intensities"
    )
    bias: NonNegativeFloat = Field(0.15, description="Standard deviation of a smooth receive field, relative")
    thick_mm: NonNegativeFloat = Field(
        5.0, description="Largest slice thickness: the image is averaged over it along a random axis"
    )
    thick_share: Fraction = Field(0.5, description="Fraction of participants with thick slices")
    cut_mm: NonNegativeFloat = Field(
        10.0, description="Largest part of the brain that the field of view leaves out, at its top or bottom"
    )
    cut_share: Fraction = Field(0.1, description="Fraction of participants whose field of view leaves out a part")
    edge_mm: NonNegativeFloat = Field(
        2.0, description="Largest displacement of the brain's edge, as brain extraction makes it"
    )


class Template(Simulation):
    """Participants made of real parts: T1s of brains, a group average of FA, bundles of a group."""

    anatomies: DataPath = Field(
        description="Folder of brain-extracted T1s, *T1w.nii.gz, with participants.tsv where ages and sexes are known"
    )
    fa_map: DataPath = Field(description="Group average of FA, near MNI152")
    bundles: DataPath = Field(description="Streamlines of a group in MNI152 mm, by bundle (npz; docs/data.md)")
    n_subjects: PositiveInt = Field(60, description="Number of participants; anatomies are used in turn")
    t1_spacing_mm: PositiveFloat = Field(1.5, description="Voxel size of the T1")
    dwi_spacing_mm: PositiveFloat = Field(2.5, description="Voxel size of the DWI")
    n_directions: Annotated[int, Field(ge=6)] = Field(15, description="Number of diffusion directions")
    n_b0: PositiveInt = Field(1, description="Number of b=0 volumes")
    deformation_mm: NonNegativeFloat = Field(3.0, description="Typical size of a smooth deformation of the anatomy")
    t1: T1Variation = T1Variation()
