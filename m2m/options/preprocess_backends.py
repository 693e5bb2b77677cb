"""Section about corrections of the diffusion series, and a record of each backend.

A backend is a function ``(dwi, (bvec, bval), series, options, scratch, threads)`` that returns the
corrected image, its ``(bvec, bval)`` and the calls of external programs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from m2m.options.backends import Backend, listed, no_commands
from m2m.options.section import Fraction, Section, one_of

CORRECTIONS = {
    "denoise": "denoised [@veraart2016]",
    "degibbs": "corrected for Gibbs ringing [@kellner2016]",
    "eddy": "corrected for eddy currents and motion by FSL's eddy [@andersson2016]",
}
BIAS = {"ants": "N4 [@tustison2010]", "fsl": "FSL's fast"}


def mrtrix3_commands(section: "Preprocess") -> tuple[str, ...]:
    """Programs of the backend `mrtrix3`, for the corrections that are switched on."""
    n4_or_fast = {"ants": "N4BiasFieldCorrection", "fsl": "fast"}[section.bias_algorithm]
    return (
        "mrconvert",
        *(("dwidenoise",) if section.denoise else ()),
        *(("mrdegibbs",) if section.degibbs else ()),
        *(("dwifslpreproc", "eddy") if section.eddy else ()),
        *(("dwibiascorrect", n4_or_fast) if section.bias else ()),
    )


def fsl_commands(section: "Preprocess") -> tuple[str, ...]:
    """Programs of the backend `fsl`."""
    return ("bet", "eddy")


def mrtrix3_sentence(section: "Preprocess") -> str:
    """Describe the corrections by the backend `mrtrix3`, in their order."""
    steps = [text for key, text in CORRECTIONS.items() if getattr(section, key)]
    if section.bias:
        steps.append(f"corrected for the bias field by {BIAS[section.bias_algorithm]}")
    return f"With MRtrix3 [@tournier2019], the series were {listed(steps or ['converted'])}."


def fsl_sentence(section: "Preprocess") -> str:
    """Describe the corrections by the backend `fsl`."""
    return (
        "With FSL, the series were corrected for eddy currents and motion by eddy [@andersson2016] "
        "inside a mask by bet [@smith2002]."
    )


def no_corrections(section: "Preprocess") -> str:
    """Describe the backend `none`, which changes nothing."""
    return ""


PREPROCESS_BACKENDS = {
    "none": Backend("", no_commands, no_corrections),
    "mrtrix3": Backend(
        "m2m.diffusion.mrtrix3_preprocess:correct",
        mrtrix3_commands,
        mrtrix3_sentence,
        "MRtrix3",
        ("mrconvert", "dwidenoise", "mrdegibbs", "dwifslpreproc", "dwibiascorrect"),
        "mrtrix3",
    ),
    "fsl": Backend(
        "m2m.diffusion.fsl_preprocess:correct",
        fsl_commands,
        fsl_sentence,
        "FSL",
        ("bet", "eddy", "fast"),
        "fsl",
    ),
}
if TYPE_CHECKING:
    PreprocessBackend = str
else:
    PreprocessBackend = one_of(lambda: PREPROCESS_BACKENDS)


class Preprocess(Section):
    """Corrections of the diffusion series before the fit."""

    renamed: ClassVar[Mapping[str, str]] = {"chain": "backend"}

    backend: PreprocessBackend = Field("none", description="Software of the corrections; none: no corrections")
    denoise: bool = Field(True, description="Backend mrtrix3: denoise with dwidenoise")
    degibbs: bool = Field(True, description="Backend mrtrix3: correct Gibbs ringing with mrdegibbs")
    eddy: bool = Field(
        True, description="Backend mrtrix3: correct eddy currents and motion with dwifslpreproc, which needs FSL"
    )
    bias: bool = Field(False, description="Backend mrtrix3: correct the bias field with dwibiascorrect")
    bias_algorithm: Literal["ants", "fsl"] = Field(
        "ants", description="Software of dwibiascorrect, which must be installed"
    )
    phase_encoding: str = Field(
        "AP", pattern="^(AP|PA|LR|RL|IS|SI)$", description="Phase-encoding direction of the series"
    )
    readout_s: PositiveFloat = Field(0.05, description="Total readout time of the series")
    bet_fraction: Fraction = Field(
        0.3, description="Backend fsl: fractional intensity threshold of the mask for eddy, bet -f"
    )

    @property
    def record(self) -> Backend:
        """Record of the chosen backend."""
        return PREPROCESS_BACKENDS[self.backend]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the backend calls."""
        return self.record.commands(self)
