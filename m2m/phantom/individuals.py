"""Properties of the simulated participants; each group is drawn from its own random stream.

A draw depends only on the seed, the participant and the stream: more participants or other noise
do not change the anatomy of a participant.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.special import expit, logit

from m2m.options import Phantom, Simulation
from m2m.phantom.bundles import BUNDLES

STREAMS = (
    *("demography", "body", "shape", "microstructure", "pose", "t1", "dwi", "distortion", "oblique", "variation"),
    *("scanner", "change"),
)
# Centre of the field of view in scanner coordinates (mm), the same for all participants.
CENTRE_MM = (0.0, -16.0, 4.0)

# Grey and white matter: 1.68 l in the template, about 1.2 l in a woman of 20 years.
REFERENCE_VOLUME = 1.2 / 1.68
BRAIN_VOLUME_SD = 0.08
ANISOTROPY_SD = 0.02
VENTRICLE_LOG_SD = 0.30
REFERENCE_AGE = 50.0
RADIAL_FA = 0.50
# Part of the standard deviation of FA that all bundles share.
GLOBAL_SHARE = 0.5
# FA of the fibres at which `microstructure_sd` is the relative standard deviation.
SPREAD_FA = 0.75
HEAD_SHIFT_MM = 4.0
HEAD_TURN_DEG = 3.0


@dataclass(frozen=True)
class Pose:
    """Position of a head in the scanner, and the fields of view of its two scans.

    Attributes
    ----------
    from_scanner : ndarray, shape (4, 4)
        T1 world mm to mm of the head in its own posture, around `CENTRE_MM`.
    dwi_to_t1 : ndarray, shape (4, 4)
        DWI world mm to T1 world mm: motion of the head between the scans.
    t1_axes, dwi_axes : ndarray, shape (3, 3)
        Rotations of the fields of view: columns are their axes in world axes. That of the T1 is the
        rotation of the head in the scanner.
    """

    from_scanner: NDArray[np.float64]
    dwi_to_t1: NDArray[np.float64]
    t1_axes: NDArray[np.float64]
    dwi_axes: NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Properties that all simulated participants have.

    Attributes
    ----------
    label : str
    age_years : float or None
    sex : str or None
        ``F`` or ``M``.
    to_brain : ndarray, shape (4, 4)
        T1 world mm to mm of the brain before its deformation.
    pose : Pose
    fa : ndarray, shape (kinds,)
        FA of each kind of fibre.
    myelin : ndarray, shape (kinds,)
        Relative excess of myelin, which raises the T1 intensity.
    """

    label: str
    age_years: float | None
    sex: str | None
    to_brain: NDArray[np.float64]
    pose: Pose
    fa: NDArray[np.float64]
    myelin: NDArray[np.float64]


@dataclass(frozen=True)
class Individual(Drawn):
    """Properties of one participant of the phantom; kinds of fibres are the bundles, then radial fibres elsewhere.

    Attributes
    ----------
    brain_volume : float
        Relative to the template.
    ventricles : float
        Volume relative to the template, before the brain is scaled.
    """

    brain_volume: float
    ventricles: float


def stream(seed: int, label: str, name: str, visit: int = 0) -> np.random.Generator:
    """Create a participant's random generator for one purpose.

    Parameters
    ----------
    seed : int
    label : str
        Digits.
    name : str
        One of `STREAMS`.
    visit : int
        The first one is 0.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng([seed, int(label), STREAMS.index(name), *([visit] if visit else [])])


def rigid(rotation_deg: NDArray, shift_mm: NDArray) -> NDArray[np.float64]:
    """Transform, shape (4, 4), of a rotation vector (degrees) and a shift (mm), shape (3,) each."""
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_rotvec(rotation_deg, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform


def _in_ball(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Draw a vector, shape (3,), uniform in length up to the radius and in direction."""
    direction = rng.standard_normal(3)
    return radius * rng.uniform() * direction / np.linalg.norm(direction)


def scanner_of(options: Phantom, label: str) -> str | None:
    """Draw the scanner of a participant; None where there are no scanners."""
    names = sorted(options.scanners)
    return str(stream(options.seed, label, "scanner").choice(names)) if names else None


def demography(options: Phantom, label: str) -> tuple[float, str]:
    """Draw age in years, to a tenth, and sex."""
    rng = stream(options.seed, label, "demography")
    return round(float(rng.uniform(*options.age_years)), 1), str(rng.choice(["F", "M"]))


def microstructure(
    rng: np.random.Generator, options: Phantom, age_years: float, sex: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw FA of each bundle's fibres, then of the radial fibres, and their myelin, as `fibres` does."""
    typical = np.array([b.fa for b in BUNDLES] + [RADIAL_FA])
    aging = np.array([b.aging for b in BUNDLES] + [1.0])
    return fibres(rng, options, age_years, sex, typical, aging)


def fibres(
    rng: np.random.Generator,
    options: Simulation,
    age_years: float,
    sex: str | None,
    typical: NDArray,
    aging: NDArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw FA of each kind of fibre and the myelin that raises the T1 intensity.

    Parameters
    ----------
    rng : numpy.random.Generator
    options : Simulation
    age_years : float
    sex : {"F", "M"} or None
    typical, aging : ndarray, shape (kinds,)
        Typical FA, and the effect of age relative to that on the average bundle.

    Returns
    -------
    fa, myelin : ndarray, shape (kinds,)
    """
    effects = options.effects
    decades = (age_years - REFERENCE_AGE) / 10
    systematic = effects.fa_per_decade * decades * aging + effects.fa_male * (sex == "M")
    kinds = len(typical)
    # Two parts of each deviation: one that also changes myelin, and so T1, and one that does not.
    parts = rng.standard_normal((2, kinds)) * np.sqrt(1 - GLOBAL_SHARE**2)
    parts += rng.standard_normal((2, 1)) * GLOBAL_SHARE
    shared, hidden = parts * options.microstructure_sd
    visible = np.sqrt(effects.t1_share) * shared
    drawn = visible + np.sqrt(1 - effects.t1_share) * hidden
    # On the logit scale FA stays within 0 and 1, and coherent bundles vary least. Small effects of
    # age and sex are absolute; differences between participants are relative at `SPREAD_FA`.
    shift = systematic / (typical * (1 - typical)) + drawn / (1 - SPREAD_FA)
    return expit(logit(typical) + shift), effects.in_t1 * systematic / typical + visible


def changed(options: Phantom, label: str, visit: int, fa: NDArray, myelin: NDArray) -> tuple[NDArray, NDArray]:
    """FA of each kind of fibre and myelin at a visit: a change that all kinds share, and that differs by participant.

    As in `fibres`, a part of the change also changes myelin, and so the T1.
    """
    if not options.visits or not visit:
        return fa, myelin
    years, share = visit * options.visits.years, options.effects.t1_share
    visible, hidden = years * options.visits.fa_per_year_sd * stream(options.seed, label, "change").standard_normal(2)
    shift = (np.sqrt(share) * visible + np.sqrt(1 - share) * hidden) / (fa * (1 - fa))
    return expit(logit(fa) + shift), myelin + np.sqrt(share) * visible / fa


def oblique_axes(options: Simulation, label: str, visit: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the axes of the fields of view of T1 and DWI, shape (3, 3) each: columns in world axes."""
    rng = stream(options.seed, label, "oblique", visit)
    t1, dwi = (Rotation.from_rotvec(_in_ball(rng, options.oblique_deg), degrees=True) for _ in range(2))
    return t1.as_matrix(), dwi.as_matrix()


def draw_pose(options: Simulation, label: str, visit: int = 0) -> Pose:
    """Draw the position of a head in the scanner, its motion between the scans, and their fields of view.

    Parameters
    ----------
    options : Simulation
    label : str
        Digits.
    visit : int
        The first one is 0.

    Returns
    -------
    Pose
    """
    rng = stream(options.seed, label, "pose", visit)
    pose = rigid(HEAD_TURN_DEG * rng.standard_normal(3), HEAD_SHIFT_MM * rng.standard_normal(3))
    motion = rigid(_in_ball(rng, options.motion_deg), _in_ball(rng, options.motion_mm))
    t1_axes, dwi_axes = oblique_axes(options, label, visit)
    in_scanner = np.eye(4)
    in_scanner[:3, :3] = t1_axes
    in_scanner[:3, 3] = np.array(CENTRE_MM) - t1_axes @ np.array(CENTRE_MM)
    return Pose(np.asarray(np.linalg.inv(in_scanner @ pose), dtype=np.float64), motion, t1_axes, dwi_axes)


def draw(options: Phantom, label: str, visit: int = 0) -> Individual:
    """Draw a participant; between visits they age, the FA changes, and the head lies differently.

    Parameters
    ----------
    options : Phantom
        `n_subjects` has no effect.
    label : str
        Digits, as in `m2m.phantom.labels`.
    visit : int
        The first one is 0.

    Returns
    -------
    Individual
    """
    effects = options.effects
    age_years, sex = demography(options, label)
    age_years += visit * options.visits.years if options.visits else 0
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
    fa, myelin = microstructure(stream(options.seed, label, "microstructure"), options, age_years, sex)
    fa, myelin = changed(options, label, visit, fa, myelin)
    pose = draw_pose(options, label, visit)
    to_brain = np.asarray(np.linalg.inv(size) @ pose.from_scanner, dtype=np.float64)
    return Individual(label, age_years, sex, to_brain, pose, fa, myelin, float(brain_volume), float(ventricles))
