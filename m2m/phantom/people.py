"""Who the simulated people are: everything that is drawn, each from its own random stream.

A draw depends on the seed, the person and its stream only: adding people, or changing the
noise, changes nobody's anatomy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.special import expit, logit

from m2m.options import Phantom
from m2m.phantom.bundles import BUNDLES

STREAMS = ("demography", "body", "shape", "microstructure", "pose", "t1", "dwi", "distortion")

# The template's grey and white matter measure 1.68 l, a woman's of 20 years about 1.2 l.
REFERENCE_VOLUME = 1.2 / 1.68
BRAIN_VOLUME_SD = 0.08
ANISOTROPY_SD = 0.02
VENTRICLE_LOG_SD = 0.30
REFERENCE_AGE = 50.0
RADIAL_FA = 0.50
# Of the spread of bundle FA, this part (of the deviation) is common to all white matter.
GLOBAL_SHARE = 0.5
# `microstructure_sd` is relative at this FA of the fibres.
SPREAD_FA = 0.75
HEAD_SHIFT_MM = 4.0
HEAD_TURN_DEG = 3.0


@dataclass(frozen=True)
class Person:
    """What sets one person apart.

    Attributes
    ----------
    label : str
    age_years : float
    sex : str
        ``F`` or ``M``.
    brain_volume : float
        Relative to the template.
    ventricles : float
        Volume relative to the template's, before the brain is scaled.
    fa : ndarray, shape (B + 1,)
        FA of each bundle's fibres, then of the radial fibres elsewhere.
    myelin : ndarray, shape (B + 1,)
        Relative excess of myelin, which shows in T1.
    to_brain : ndarray, shape (4, 4)
        T1 world mm to mm of the brain in the template's size and posture.
    dwi_to_t1 : ndarray, shape (4, 4)
        DWI world mm to T1 world mm: the head moved between the scans.
    """

    label: str
    age_years: float
    sex: str
    brain_volume: float
    ventricles: float
    fa: NDArray[np.float64]
    myelin: NDArray[np.float64]
    to_brain: NDArray[np.float64]
    dwi_to_t1: NDArray[np.float64]


def stream(seed: int, label: str, name: str) -> np.random.Generator:
    """The person's random numbers for one purpose."""
    return np.random.default_rng([seed, int(label), STREAMS.index(name)])


def rigid(rotation_deg: NDArray, shift_mm: NDArray) -> NDArray[np.float64]:
    """4x4 transform from a rotation vector (degrees) and a shift (mm)."""
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_rotvec(rotation_deg, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform


def _in_ball(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Uniform in length and direction."""
    direction = rng.standard_normal(3)
    return radius * rng.uniform() * direction / np.linalg.norm(direction)


def demography(options: Phantom, label: str) -> tuple[float, str]:
    """Age in years, to a tenth, and sex."""
    rng = stream(options.seed, label, "demography")
    return round(float(rng.uniform(*options.age_years)), 1), str(rng.choice(["F", "M"]))


def microstructure(
    rng: np.random.Generator, options: Phantom, age_years: float, sex: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FA of every kind of fibre and the myelin that shows in T1, each shape (B + 1,)."""
    effects = options.effects
    typical = np.array([b.fa for b in BUNDLES] + [RADIAL_FA])
    aging = np.array([b.aging for b in BUNDLES] + [1.0])
    decades = (age_years - REFERENCE_AGE) / 10
    systematic = effects.fa_per_decade * decades * aging + effects.fa_male * (sex == "M")
    kinds = len(typical)
    # Two parts of each deviation: one that myelin, and so T1, shows too, and one that it does not.
    parts = rng.standard_normal((2, kinds)) * np.sqrt(1 - GLOBAL_SHARE**2)
    parts += rng.standard_normal((2, 1)) * GLOBAL_SHARE
    shared, hidden = parts * options.microstructure_sd
    visible = np.sqrt(effects.t1_share) * shared
    drawn = visible + np.sqrt(1 - effects.t1_share) * hidden
    # On the logit scale FA stays within 0 and 1, and coherent bundles vary least; small changes
    # are absolute (age, sex), or relative at the spread's reference (between people).
    shift = systematic / (typical * (1 - typical)) + drawn / (1 - SPREAD_FA)
    return expit(logit(typical) + shift), effects.in_t1 * systematic / typical + visible


def draw(options: Phantom, label: str) -> Person:
    """Draw a person.

    Parameters
    ----------
    options : Phantom
        `n_subjects` plays no role.
    label : str
        Digits, as `m2m.phantom.labels` gives them.
    """
    effects = options.effects
    age_years, sex = demography(options, label)
    rng = stream(options.seed, label, "body")
    decades = (age_years - 20) / 10
    brain_volume = (
        REFERENCE_VOLUME
        * (1 + effects.brain_volume_per_decade) ** decades
        * (1 + effects.brain_volume_male * (sex == "M"))
        * np.exp(BRAIN_VOLUME_SD * rng.standard_normal())
    )
    ventricles = (1 + effects.ventricle_per_decade) ** ((age_years - REFERENCE_AGE) / 10) * np.exp(
        VENTRICLE_LOG_SD * rng.standard_normal()
    )
    stretch = ANISOTROPY_SD * rng.standard_normal((3, 3))
    stretch = (stretch + stretch.T) / 2
    size = np.eye(4)
    size[:3, :3] = np.eye(3) + stretch - np.eye(3) * np.trace(stretch) / 3
    size[:3, :3] *= (brain_volume / np.linalg.det(size[:3, :3])) ** (1 / 3)
    fa, myelin = microstructure(
        stream(options.seed, label, "microstructure"), options, age_years, sex
    )
    rng = stream(options.seed, label, "pose")
    pose = rigid(HEAD_TURN_DEG * rng.standard_normal(3), HEAD_SHIFT_MM * rng.standard_normal(3))
    motion = rigid(_in_ball(rng, options.motion_deg), _in_ball(rng, options.motion_mm))
    return Person(
        label, age_years, sex, float(brain_volume), float(ventricles), fa, myelin,
        np.linalg.inv(pose @ size), motion,
    )  # fmt: skip
