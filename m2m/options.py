"""The configuration: one validated model per section, unknown keys forbidden.

A misspelt key or an impossible value stops ``snakemake -n`` by name. A stage receives its
own section only, as JSON.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
# Datasets, tasks and models name folders, and wildcards of the workflow.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"the lower limit stands first, got {list(limits)}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Effects(Section):
    """Effect sizes that age and sex have on simulated people (sources: docs/methods.md)."""

    fa_per_decade: float = Field(-0.012, description="Change of bundle FA per decade of age")
    ventricle_per_decade: float = Field(0.12, description="Relative growth of the ventricles")
    brain_volume_per_decade: float = Field(-0.02, description="Relative change of brain volume")
    brain_volume_male: float = Field(0.10, description="Relative volume of male over female brains")
    fa_male: float = Field(0.008, description="FA of male minus female bundles")
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
    microstructure_sd: float = Field(
        0.04, ge=0, description="Relative spread of fibre FA between people, where FA is 0.75"
    )
    effects: Effects = Effects()


class Cohort(Section):
    """Where people come from, and who takes part."""

    source: Literal["phantom", "bids"] = "phantom"
    bids_dir: Path | None = Field(None, description="Raw BIDS or QSIPrep/fMRIPrep derivatives")
    participant_label: tuple[Label, ...] = Field((), description="Only these; empty: everybody")
    exclude: Path | None = Field(None, description="TSV: participant_id, reason")
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


class Preprocess(Section):
    """Corrections of the diffusion series before the fit."""

    chain: Literal["none", "mrtrix3", "fsl"] = "none"
    denoise: bool = Field(True, description="dwidenoise; chain mrtrix3")
    degibbs: bool = Field(True, description="mrdegibbs; chain mrtrix3")
    eddy: bool = Field(True, description="dwifslpreproc, which needs FSL; chain mrtrix3")
    bias: bool = Field(False, description="dwibiascorrect; chain mrtrix3")
    bias_algorithm: Literal["ants", "fsl"] = Field("ants", description="What it needs installed")
    phase_encoding: str = Field("AP", pattern="^(AP|PA|LR|RL|IS|SI)$")
    readout_s: PositiveFloat = 0.05
    bet_fraction: Fraction = Field(0.3, description="bet -f for eddy's mask; chain fsl")

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the chain calls."""
        if self.chain == "none":
            return ()
        if self.chain == "fsl":
            return ("bet", "eddy")
        n4_or_fast = {"ants": "N4BiasFieldCorrection", "fsl": "fast"}[self.bias_algorithm]
        return (
            "mrconvert",
            *(("dwidenoise",) if self.denoise else ()),
            *(("mrdegibbs",) if self.degibbs else ()),
            *(("dwifslpreproc", "eddy") if self.eddy else ()),
            *(("dwibiascorrect", n4_or_fast) if self.bias else ()),
        )


class Mask(Section):
    """Brain mask of the diffusion series."""

    method: Literal["median_otsu", "supplied", "bet"] = "median_otsu"
    median_radius: PositiveInt = 3
    passes: PositiveInt = 2
    bet_fraction: Fraction = 0.3

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the method calls."""
        return ("bet",) if self.method == "bet" else ()


class Dti(Section):
    """Tensor fit."""

    fit: Literal["WLS", "OLS", "NLLS", "RESTORE"] = "WLS"
    b0_threshold_s_per_mm2: PositiveFloat = 50.0
    max_b_s_per_mm2: PositiveFloat = Field(
        1500.0, description="Shells above are left out of the fit"
    )
    mask: Mask = Mask()


class Anat(Section):
    """T1 to the common grid: brain mask, white matter, affine to the MNI152 template."""

    spacing_mm: PositiveFloat = 3.0
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 80, 64)
    brain_volume_l: Range = Field(
        (0.7, 2.3), description="A brain of another volume is excluded, with the reason"
    )


class Grid(Section):
    """Registration of DWI to T1, and what is good enough."""

    registration: Literal["rigid", "affine", "syn", "none"] = "rigid"
    fa_mean: Range = Field((0.10, 0.45), description="Of FA inside the mask")
    min_coverage: Fraction = Field(0.5, description="Part of the T1's brain that the DWI covers")
    max_shift_mm: PositiveFloat = Field(30.0, description="Largest shift of the registration")


class Slices(Section):
    """Normalisation of volumes to slices."""

    t1_range_percent: Range = (1.0, 99.0)


class Network(Section):
    """Octave encoder and decoder of Macro2Micro."""

    widths: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 48, 64, 96), min_length=2, description="Channels of each level, fine to coarse"
    )
    alpha: float = Field(
        0.5, ge=0, lt=1, description="Share of channels in the low-frequency branch"
    )
    context: PositiveInt = Field(5, description="Neighbouring slices seen, an odd number")

    @model_validator(mode="after")
    def _context_is_odd(self) -> Self:
        if self.context % 2 == 0:
            raise ValueError(f"network.context must be odd, got {self.context}")
        return self


class Losses(Section):
    """Weight of each term of the generator's objective; 0 switches a term off."""

    image: float = Field(1.0, ge=0)
    low: float = Field(1.0, ge=0)
    high: float = Field(1.0, ge=0)
    ms_ssim: float = Field(1.0, ge=0)
    adversarial: float = Field(0.01, ge=0)
    patch_adversarial: float = Field(0.01, ge=0)
    low_sigma_px: PositiveFloat = Field(
        1.5, description="Gaussian that makes the low band; 3.5 at 1.25 mm is 1.5 at 3 mm"
    )


class Discriminators(Section):
    """Image and brain-focused patch discriminators."""

    width: PositiveInt = 16
    crops: PositiveInt = Field(4, description="Crops per image, drawn inside the brain mask")
    crop_fraction: Range = Field((0.125, 0.25), description="Side of a crop over side")
    crop_size: Literal[8, 16, 32, 64, 128] = Field(16, description="Pixels a crop is resized to")
    learning_rate: PositiveFloat = 2e-4
    every: PositiveInt = Field(1, description="Generator steps per discriminator step")


class Training(Section):
    """The loop: steps, optimiser, augmentation, how often to look and to save."""

    steps: PositiveInt = 1500
    batch_size: PositiveInt = Field(12, description="Slices a step, of all devices together")
    learning_rate: PositiveFloat = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="Share of the steps in which the learning rate rises; then cosine to 0"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.99), description="Of Adam")
    ema_decay: Fraction = Field(0.995, description="Of the averaged weights, the ones exported")
    flip: bool = Field(True, description="Mirror half of the slices left to right")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="Gamma and scale of intensities: within exp(-jitter) and exp(jitter)"
    )
    validate_every: PositiveInt = 100
    validation_subjects: PositiveInt = Field(16, description="At most so many, evenly chosen")
    checkpoint_every: PositiveInt = 250
    workers: int = Field(0, ge=0, description="Processes that read slices ahead")
    seed: Annotated[int, Field(ge=0)] = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    devices: PositiveInt = 1


class Macro2Micro(Section):
    """Octave GAN (arXiv 2412.11277), made sound."""

    family: Literal["macro2micro"] = "macro2micro"
    network: Network = Network()
    losses: Losses = Losses()
    discriminators: Discriminators = Discriminators()
    training: Training = Training()
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")


class MeanMap(Section):
    """The training cohort's mean map, carried to each person by registration to the template."""

    family: Literal["mean"] = "mean"


class RescaledT1(Section):
    """T1 mapped to the target's scale by a least-squares line inside the training brains."""

    family: Literal["t1"] = "t1"


Model = Annotated[Macro2Micro | MeanMap | RescaledT1, Field(discriminator="family")]


class Task(Section):
    """One translation: which image from which, and the models that try it."""

    source: Literal["t1"] = "t1"
    target: Literal["fa"] = "fa"
    models: tuple[str, ...] = ("macro2micro", "mean", "t1")


class Rois(Section):
    """Label image for region-wise agreement."""

    image: str | None = Field(
        None,
        description="Path, with {folder} and {unit} where each person has one; phantom: automatic",
    )
    space: Literal["T1w", "MNI152"] = Field("T1w", description="Space of the label image")
    labels: Path | None = Field(None, description="TSV: index, name")


class Evaluation(Section):
    """Metrics and their uncertainty."""

    rois: Rois = Rois()
    min_roi_voxels: PositiveInt = 8
    bootstrap: PositiveInt = 2000
    seed: int = 1


class Report(Section):
    """Figures and the page."""

    title: str = "m2m"
    max_subject_pages: PositiveInt = 60
    band_resamples: PositiveInt = Field(1000, description="Bootstrap of the bands in figures")
    seed: int = 1


class Config(Section):
    """The whole of config.yaml."""

    dataset: Name
    results: Path = Path("results")
    cohort: Cohort = Cohort()
    split: Split = Split()
    preprocess: Preprocess = Preprocess()
    dti: Dti = Dti()
    anat: Anat = Anat()
    grid: Grid = Grid()
    slices: Slices = Slices()
    models: dict[Name, Model]
    tasks: dict[Name, Task]
    evaluation: Evaluation = Evaluation()
    report: Report = Report()

    @model_validator(mode="after")
    def _tasks_name_known_models(self) -> Self:
        for name, task in self.tasks.items():
            if unknown := set(task.models) - set(self.models):
                raise ValueError(
                    f"tasks.{name}.models names {sorted(unknown)}, not in models: "
                    f"{sorted(self.models)}"
                )
        return self


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file."""
    return Config.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
