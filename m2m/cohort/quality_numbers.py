"""The quality numbers that have limits: their limits, and their values over the cohort."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from m2m.options.section import Section


@dataclass(frozen=True)
class QualityNumber:
    """A number of a status file that has a limit in the configuration.

    Attributes
    ----------
    title : str
        With its unit.
    option : str
        Path of its limit in the configuration, ``dti.limits.max_nonpositive_share``: a minimum (``min_``), a
        maximum (``max_``), or a range.
    scale : float
        Factor of the values in the figure.
    """

    title: str
    option: str
    scale: float = 1.0


# By its column in quality.tsv.
LIMITED = {
    "dti_md_median_mm2_per_s": QualityNumber("median MD (µm²/ms)", "dti.limits.md_median_mm2_per_s", 1e3),
    "dti_nonpositive_share": QualityNumber("eigenvalues raised (share)", "dti.limits.max_nonpositive_share"),
    "dti_b0_over_weighted": QualityNumber("b = 0 over weighted signal", "dti.limits.min_b0_over_weighted"),
    "dti_attenuating_share": QualityNumber("signal falls with b (share)", "dti.limits.min_attenuating_share"),
    "dti_residual_over_noise": QualityNumber("residual over noise", "dti.limits.max_residual_over_noise"),
    "dti_order_share": QualityNumber("better than random order", "dti.limits.min_order_share"),
    "dti_other_order_share": QualityNumber("another order better", "dti.limits.max_other_order_share"),
    "anat_brain_volume_l": QualityNumber("brain volume (l)", "anat.brain_volume_l"),
    "anat_rotated_mi_ratio": QualityNumber("rotated T1, MI ratio", "anat.max_rotated_mi"),
    "grid_rotated_mi_ratio": QualityNumber("rotated DWI, MI ratio", "grid.max_rotated_mi"),
    "grid_fa_mean": QualityNumber("mean FA", "grid.fa_mean"),
    "grid_coverage": QualityNumber("coverage", "grid.min_coverage"),
    "grid_shift_mm": QualityNumber("shift (mm)", "grid.max_shift_mm"),
}


def limits_of(number: QualityNumber, sections: Mapping[str, Section]) -> tuple[float | None, float | None]:
    """Lower and upper limit of a number, None where there is none.

    Parameters
    ----------
    number : QualityNumber
    sections : mapping of str to Section
        By name: dti, anat, grid.
    """
    name, *keys = number.option.split(".")
    value: Any = sections[name]
    for key in keys:
        value = getattr(value, key)
    if isinstance(value, tuple):
        return value
    return (value, None) if keys[-1].startswith("min_") else (None, value)


def limited_rows(quality: Iterable[Mapping[str, Any]], sections: Mapping[str, Section]) -> list[dict[str, Any]]:
    """Values of the numbers with limits of every unit that has them.

    Parameters
    ----------
    quality : rows of quality.tsv
    sections : mapping of str to Section
        As for `limits_of`.

    Returns
    -------
    list of dict
        unit, state, number (its column), value, low, high.
    """
    rows = []
    quality = list(quality)
    for column, number in LIMITED.items():
        low, high = limits_of(number, sections)
        for row in quality:
            if row.get(column) not in (None, ""):
                about = {"unit": row["unit"], "state": row["state"], "number": column}
                rows.append(about | {"value": float(row[column]), "low": low, "high": high})
    return rows
