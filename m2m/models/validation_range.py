"""How far a T1 and its prediction lie outside what a model was validated on.

The record of a model has the range of each of a few numbers over its participants. A new T1 has the same numbers, and
those outside of a range are named, with what to look at. Nothing is refused by it: the cohort may be narrow, and beside
a lesion a map may be right. What is no T1 of a whole brain is refused by `m2m.translate.t1_checks`, by limits that no
model changes. docs/experiments/outside.md has the numbers of real T1s.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np

from m2m.io.errors import DataError

# Standard deviations from the mean beyond which a value is outside, as `margin` estimates them from a range.
OUTSIDE_SDS = 3.0
# Widths of a range beyond its end, from which a value is far outside.
FAR = 2.0
# A range over fewer participants is not compared with.
FEWEST = 5
# Most participants of a part that ranges are taken over.
MOST = 50


class Number(NamedTuple):
    """A number that a T1 or its prediction has.

    Attributes
    ----------
    title : str
    unusual : {"low", "high", "both"}
        Which values are a reason to look.
    least_width : float
        A narrower range, as of participants who are alike by chance, is taken to be this wide.
    look : str
        What to look at.
    """

    title: str
    unusual: Literal["low", "high", "both"]
    least_width: float
    look: str


_OUTLINE = (
    "the outline of the brain in the QC figure: brain extraction or registration failed, or the head is not whole"
)
_DEFORMED = "the shape of the brain: ventricles, lesions, missing parts"
NUMBERS = {
    "brain_volume_l": Number("brain volume, l", "both", 0.2, "the outline of the brain, the age, and the voxel size"),
    "brain_overlap": Number("overlap of the brain with the template's", "low", 0.02, _OUTLINE),
    "template_mi": Number(
        "mutual information with the template, nats", "low", 0.05, f"the contrast of the T1; {_OUTLINE}"
    ),
    "tissue_contrast": Number(
        "contrast of white and grey matter", "low", 0.5, "the T1: age, noise, bias, sequence, contrast agent"
    ),
    "asymmetry": Number("difference between the hemispheres", "high", 0.1, "the T1: a lesion, bias, a missing part"),
    "deformed_mi": Number("mutual information after deformation, nats", "low", 0.05, _DEFORMED),
    "jacobian_p1": Number("1st percentile of the Jacobian determinant", "low", 0.1, _DEFORMED),
    "jacobian_p99": Number("99th percentile of the Jacobian determinant", "high", 0.2, _DEFORMED),
    "mean_sd": Number(
        "mean standard deviation of the prediction, as it is before its calibration",
        "high",
        0.002,
        "the map of standard deviations, and the T1 where it is high",
    ),
}


def number_of(name: str) -> Number | None:
    """The number of a name; the standard deviations ``mean_sd_<candidate>`` are one number."""
    return NUMBERS.get("mean_sd" if name.startswith("mean_sd_") else name)


class Outside(NamedTuple):
    """A number outside of the range of the participants.

    Attributes
    ----------
    name : str
    number : Number
        Of this name.
    value, low, high : float
        The number, and its range.
    widths : float
        How far beyond the range's end it lies, in widths of the range.
    n_subjects : int
        Whom the range is over.
    """

    name: str
    number: Number
    value: float
    low: float
    high: float
    widths: float
    n_subjects: int

    @property
    def far(self) -> bool:
        """Whether it lies far outside."""
        return self.widths > FAR

    @property
    def problem(self) -> str:
        """What it is, in words."""
        return f"{self.number.title} is {'far ' * self.far}outside the model's validation range"

    @property
    def numbers(self) -> str:
        """Value and range."""
        return f"{self.value:.3g}, range {self.low:.3g} to {self.high:.3g} of {self.n_subjects} participants"

    def entry(self) -> dict[str, Any]:
        """Entry of a sidecar."""
        return {
            "Number": self.name,
            "Problem": self.problem,
            "Value": round(self.value, 4),
            "Range": [self.low, self.high],
            "Participants": self.n_subjects,
            "WidthsBeyond": round(self.widths, 2),
            "LookAt": self.number.look,
        }


def warning_of(entry: Mapping[str, Any], file: str | Path) -> DataError:
    """Make the warning of a sidecar's entry: an error that is not raised.

    Parameters
    ----------
    entry : mapping
        Of `Outside.entry`.
    file : path
        The T1.

    Returns
    -------
    DataError
    """
    low, high = entry["Range"]
    value = f"{entry['Value']:.3g}, range {low:.3g} to {high:.3g} of {entry['Participants']} participants"
    return DataError(entry["Problem"], file=file, value=value, remedy=f"look at {entry['LookAt']}")


def ranges_of(participants: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Range of each number over participants.

    Parameters
    ----------
    participants : iterable of mapping of str to float
        Numbers of each; one that a participant lacks is taken over the others.

    Returns
    -------
    dict
        By number: ``low``, ``high`` and ``n_subjects``.
    """
    values: dict[str, list[float]] = {}
    for numbers in participants:
        for name, value in numbers.items():
            if np.isfinite(value):
                values.setdefault(name, []).append(float(value))
    return {
        name: {"low": round(min(found), 5), "high": round(max(found), 5), "n_subjects": len(found)}
        for name, found in values.items()
    }


def joined(
    ranges: Mapping[str, Mapping[str, float]], further: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Ranges over the participants of both, of the numbers that the first has.

    Parameters
    ----------
    ranges, further : mapping
        Of `ranges_of`, over different participants.

    Returns
    -------
    dict
        As of `ranges_of`.
    """
    both = {name: [own, further.get(name, own)] for name, own in ranges.items()}
    return {
        name: {
            "low": min(one["low"] for one in found),
            "high": max(one["high"] for one in found),
            "n_subjects": ranges[name]["n_subjects"] + further.get(name, {}).get("n_subjects", 0),
        }
        for name, found in both.items()
    }


def margin(n_subjects: int) -> float:
    """How far beyond the end of its range a value is outside: the less, the more participants the range is over.

    Parameters
    ----------
    n_subjects : int
        Participants that the range is over, at least 2.

    Returns
    -------
    float
        Widths of the range from its end to `OUTSIDE_SDS` standard deviations from the mean, where the number is
        normally distributed: the range of so many is then twice the expected largest one of them wide (Blom 1958,
        Statistical Estimates and Transformed Beta-Variables). Not below 0.
    """
    largest = NormalDist().inv_cdf((n_subjects - 0.375) / (n_subjects + 0.25))
    return max(0.0, (OUTSIDE_SDS - largest) / (2 * largest))


def outside(numbers: Mapping[str, float], ranges: Mapping[str, Mapping[str, float]]) -> list[Outside]:
    """Numbers that lie outside of the ranges of a model's participants.

    Parameters
    ----------
    numbers : mapping of str to float
        Of `m2m.structural.t1_numbers.t1_numbers`, and of `m2m.models.uncertainty.mean_deviations`.
    ranges : mapping
        Of `ranges_of`, from the record of the model; a record of an earlier version has none.

    Returns
    -------
    list of Outside
        The farthest first.
    """
    found = []
    for name in numbers.keys() & ranges.keys():
        value = float(numbers[name])
        if (number := number_of(name)) is None:  # of a later version
            continue
        low, high, n = (ranges[name][key] for key in ("low", "high", "n_subjects"))
        width = max(high - low, number.least_width)
        below, above = (low - value) / width, (value - high) / width
        beyond = {"low": below, "high": above, "both": max(below, above)}[number.unusual]
        if n >= FEWEST and beyond > margin(int(n)):
            found.append(Outside(name, number, value, low, high, beyond, int(n)))
    return sorted(found, key=lambda one: (-one.widths, one.name))
