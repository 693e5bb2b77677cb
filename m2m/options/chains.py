"""Section about corrections of the diffusion series, and a record of each chain that makes them.

A chain is a function ``(dwi, (bvec, bval), series, options, scratch, threads)`` that gives the
corrected image, its ``(bvec, bval)`` and the calls of programs.
"""

from typing import Literal

from pydantic import Field, PositiveFloat

from m2m.options.backends import Backend, listed, no_commands
from m2m.options.section import Fraction, Section, one_of

CORRECTIONS = {
    "denoise": "denoised [@veraart2016]",
    "degibbs": "freed of Gibbs ringing [@kellner2016]",
    "eddy": "corrected for eddy currents and motion by FSL's eddy [@andersson2016]",
}
BIAS = {"ants": "N4 [@tustison2010]", "fsl": "FSL's fast"}


def mrtrix3_commands(section: "Preprocess") -> tuple[str, ...]:
    """Programs of the chain `mrtrix3`, by what is switched on."""
    n4_or_fast = {"ants": "N4BiasFieldCorrection", "fsl": "fast"}[section.bias_algorithm]
    return (
        "mrconvert",
        *(("dwidenoise",) if section.denoise else ()),
        *(("mrdegibbs",) if section.degibbs else ()),
        *(("dwifslpreproc", "eddy") if section.eddy else ()),
        *(("dwibiascorrect", n4_or_fast) if section.bias else ()),
    )


def fsl_commands(section: "Preprocess") -> tuple[str, ...]:
    """Programs of the chain `fsl`."""
    return ("bet", "eddy")


def mrtrix3_sentence(section: "Preprocess") -> str:
    """Steps of the chain `mrtrix3` in words, in their order."""
    steps = [words for key, words in CORRECTIONS.items() if getattr(section, key)]
    if section.bias:
        steps.append(f"freed of the bias field by {BIAS[section.bias_algorithm]}")
    return f"With MRtrix3 [@tournier2019], the series were {listed(steps or ['converted'])}."


def fsl_sentence(section: "Preprocess") -> str:
    """The chain `fsl` in words."""
    return (
        "With FSL, the series were corrected for eddy currents and motion by eddy [@andersson2016] "
        "inside a mask by bet [@smith2002]."
    )


def nothing_done(section: "Preprocess") -> str:
    """Words about a series that is taken as it is."""
    return ""


CHAINS = {
    "none": Backend("", no_commands, nothing_done),
    "mrtrix3": Backend(
        "m2m.diffusion.mrtrix3_chain:correct", mrtrix3_commands, mrtrix3_sentence, "MRtrix3",
        ("mrconvert", "dwidenoise", "mrdegibbs", "dwifslpreproc", "dwibiascorrect"), "mrtrix3",
    ),
    "fsl": Backend(
        "m2m.diffusion.fsl_chain:correct", fsl_commands, fsl_sentence, "FSL",
        ("bet", "eddy", "fast"), "fsl",
    ),
}  # fmt: skip
Chain = one_of(lambda: CHAINS)


class Preprocess(Section):
    """Corrections of the diffusion series before the fit."""

    chain: Chain = "none"
    denoise: bool = Field(True, description="dwidenoise; chain mrtrix3")
    degibbs: bool = Field(True, description="mrdegibbs; chain mrtrix3")
    eddy: bool = Field(True, description="dwifslpreproc, which needs FSL; chain mrtrix3")
    bias: bool = Field(False, description="dwibiascorrect; chain mrtrix3")
    bias_algorithm: Literal["ants", "fsl"] = Field("ants", description="What it needs installed")
    phase_encoding: str = Field("AP", pattern="^(AP|PA|LR|RL|IS|SI)$")
    readout_s: PositiveFloat = 0.05
    bet_fraction: Fraction = Field(0.3, description="bet -f for eddy's mask; chain fsl")

    @property
    def record(self) -> Backend:
        """What is known of the chosen chain."""
        return CHAINS[self.chain]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the chain calls."""
        return self.record.commands(self)
