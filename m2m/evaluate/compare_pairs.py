"""Maps of real pairs compared with the measured ones: voxels, regions, bundles; what repeated measurements allow.

Beside the methods stand the T1 itself, a constant, a second measurement of the participant and what a map without error
is expected to reach (`m2m.evaluate.ceiling`). A row ``<map>, line`` is the image scaled by the least-squares line of
the measured image on it in all voxels of the other participants; `m2m.evaluate.measured_maps` defines images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate import metrics as measures
from m2m.evaluate import regions as roi
from m2m.evaluate.bundle_means import bundle_means, points_in_t1
from m2m.evaluate.ceiling import expected_of_perfect
from m2m.evaluate.metric_tables import printed
from m2m.evaluate.pair_tables import markdown
from m2m.evaluate.pairs import DIRECTED_FA
from m2m.evaluate.real_pair import RealPair, compared_units, load_pair, methods_of
from m2m.io.bids import files_of
from m2m.io.files import read_json, write_text
from m2m.io.tables import write_table
from m2m.io.volume import Volume, load
from m2m.options import Evaluation, Real
from m2m.options.configured import read_config
from m2m.options.real_options import CONSTANT, PERFECT, SECOND, T1
from m2m.options.stage_flags import NeededConfig, Root
from m2m.structural.named_bundles import NamedBundle, load_bundles

COLUMNS = {
    "metrics": ("unit", "map", "region", "metric", "value"),
    "rois": ("unit", "map", "roi", "reference", "synthetic", "n_voxels"),
    "bundles": ("unit", "map", "bundle", "reference", "synthetic", "n_points"),
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Moments:
    """Sums over voxels, from which a line is fitted: of n, x, y, x^2 and x y."""

    sums: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray, y: NDArray) -> "Moments":
        """Sums of two series."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        return cls(np.array([x.size, x.sum(), y.sum(), x @ x, x @ y]))

    def without(self, other: "Moments") -> "Moments":
        """Sums of the voxels that are not those of `other`."""
        return Moments(self.sums - other.sums)

    def line(self) -> tuple[float, float] | None:
        """Slope and intercept of the least-squares line; None without voxels, or where x does not vary."""
        n, x, y, xx, xy = self.sums
        spread = n * xx - x * x
        if n < 2 or spread <= 1e-12 * n * xx:
            return None
        slope = (n * xy - x * y) / spread
        return float(slope), float((y - slope * x) / n)


def total(moments: Mapping[str, Moments]) -> Moments:
    """Sums over all participants."""
    return Moments(np.sum([one.sums for one in moments.values()], axis=0))


@dataclass(frozen=True)
class Lines:
    """Sums of every map and participant, for lines that are fitted on the others.

    Attributes
    ----------
    of : dict of str to dict of str to Moments
        By map, by unit.
    """

    of: dict[str, dict[str, Moments]]

    def scaled(self, name: str, unit: str, image: NDArray) -> NDArray[np.float64] | None:
        """Image scaled by the line of the other participants; None where there is none."""
        line = total(self.of[name]).without(self.of[name][unit]).line()
        return None if line is None else line[0] * image + line[1]

    def constant(self, unit: str) -> float | None:
        """Mean of the measured images of the other participants; None where there are none."""
        n, _, y, *_ = total(self.of[T1]).without(self.of[T1][unit]).sums
        return float(y / n) if n else None


def gather(pairs: Iterator[RealPair]) -> Lines:
    """Read every participant once for the sums of its maps and of its T1."""
    found: dict[str, dict[str, Moments]] = {}
    for pair in pairs:
        for name, image in _with_t1(pair).items():
            found.setdefault(name, {})[pair.unit] = Moments.of(image[pair.target], pair.measured.image[pair.target])
    return Lines(found)


def _with_t1(pair: RealPair) -> dict[str, NDArray]:
    """Images of every method and of the T1."""
    return {name: one.image for name, one in pair.maps.items()} | {T1: pair.t1.data}


def images_of(pair: RealPair, lines: Lines) -> dict[str, NDArray]:
    """Every image of a participant that stands in its table, in that order."""
    images: dict[str, NDArray] = {name: one.image for name, one in pair.maps.items()}
    for name, image in _with_t1(pair).items():
        if (scaled := lines.scaled(name, pair.unit, image)) is not None:
            images[f"{name}, line"] = scaled
    if (mean := lines.constant(pair.unit)) is not None:
        images[CONSTANT] = np.full(pair.target.shape, mean)
    if pair.second is not None:
        images[SECOND] = pair.second.image
    return {name: np.where(pair.target, image, 0) for name, image in images.items()}


def voxel_rows(pair: RealPair, images: Mapping[str, NDArray]) -> Rows:
    """Metrics of each map in the measured brain and in white matter, and of a map without error."""
    regions, measured = {"brain": pair.target, "wm": pair.wm}, pair.measured.image
    rows = []
    for name, image in images.items():
        values, _ = measures.region_metrics(measured, image, pair.target, regions)
        for region, mask in regions.items():
            values[region]["bias"] = measures.mean_error(measured, image, mask)
            values[region] |= angle(pair, name, mask)
        rows += _tidy(pair.unit, name, values)
    if pair.second is not None:
        second = pair.second.image
        expected = {region: expected_of_perfect(measured, second, mask) for region, mask in regions.items()}
        rows += _tidy(pair.unit, PERFECT, expected)
    return rows


def angle(pair: RealPair, name: str, region: NDArray[np.bool_]) -> dict[str, float]:
    """Median angle, degrees, between principal directions where measured FA is above `DIRECTED_FA`, of tensor maps."""
    other = pair.second if name == SECOND else pair.maps.get(name)
    if other is None or other.tensor is None or pair.measured.tensor is None:
        return {}
    directed = region & (pair.measured.image > DIRECTED_FA)
    return {"v1_angle": measures.median_angle_deg(pair.measured.tensor.v1, other.tensor.v1, directed)}


def _tidy(unit: str, name: str, values: Mapping[str, Mapping[str, float]]) -> Rows:
    """One row per region and metric."""
    return [
        {"unit": unit, "map": name, "region": region, "metric": metric, "value": value}
        for region, found in values.items()
        for metric, value in found.items()
    ]


def over_regions(means: Sequence[measures.Roi]) -> dict[str, float]:
    """Agreement of means over regions or bundles of one participant: concordance, r, mean absolute error, bias."""
    reference, synthetic = (np.array([getattr(one, kind) for one in means]) for kind in ("reference", "synthetic"))
    error = synthetic - reference
    return {
        "concordance": measures.concordance(reference, synthetic),
        "pearson": measures.pearson(reference, synthetic),
        "mae": float(np.abs(error).mean()) if means else float("nan"),
        "bias": float(error.mean()) if means else float("nan"),
        "n": len(means),
    }


@dataclass(frozen=True)
class Compared:
    """What pairs are compared by.

    Attributes
    ----------
    root : Path
        Dataset of the pairs.
    labels_of : RoiSource or None
        Loads the label image of the regions; None without one.
    names : dict of int to str
        Names of regions by label.
    min_voxels : int
        Regions with fewer voxels are left out.
    bundles : sequence of NamedBundle
        In MNI152 mm.
    """

    root: Path
    labels_of: roi.RoiSource | None
    names: dict[int, str]
    min_voxels: int
    bundles: Sequence[NamedBundle]

    def means(self, pair: RealPair, row: dict[str, str], images: Mapping[str, NDArray]) -> dict[str, dict[str, Any]]:
        """Means of each map over regions and over bundles, by table and map."""
        at, measured, found = files_of(pair.unit, self.root), pair.measured.image, {}
        if self.labels_of is not None:
            about = self.labels_of(row, pair.t1), pair.target, self.names, self.min_voxels
            found["rois"] = {name: measures.roi_means(measured, image, *about) for name, image in images.items()}
        to_mni = np.array(read_json(at("anat-status"))["grid_to_mni"])
        points = points_in_t1(self.bundles, to_mni, load(at("inverse-deformation")))
        found["bundles"] = bundle_means(measured, images, Volume(pair.target, pair.t1.affine), points)
        return found


def compare_pair(pair: RealPair, row: dict[str, str], lines: Lines, by: Compared) -> dict[str, Rows]:
    """Rows of each table for one participant."""
    images = images_of(pair, lines)
    tables: dict[str, Rows] = {"metrics": voxel_rows(pair, images), "rois": [], "bundles": []}
    by_table = by.means(pair, row, images)
    for table, key, count in (("rois", "roi", "n_voxels"), ("bundles", "bundle", "n_points")):
        for name, means in by_table.get(table, {}).items():
            tables["metrics"] += _tidy(pair.unit, name, {table: over_regions(means)})
            about = {"unit": pair.unit, "map": name}
            for one in means:
                numbers = {"reference": one.reference, "synthetic": one.synthetic, count: one.n_voxels}
                tables[table].append(about | {key: one.name} | numbers)
    return tables


def main(root: Root, config: NeededConfig) -> None:
    """Compare maps of real pairs with the measured ones, beside the T1, a constant and a second measurement."""
    written = read_config(config)
    section = written.section("real")
    compare_pairs(root / section.folder, section, written.section("evaluation"))


def compare_pairs(root: Path, section: Real, evaluation: Evaluation) -> None:
    """Write the tables of the pairs, and metrics as Markdown.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    section : Real
    evaluation : Evaluation
        With the least number of voxels of a region.
    """
    units, methods = compared_units(root), methods_of(section)
    lines = gather(load_pair(root, row, methods, section.target) for row in units)
    names, labels_of = roi.roi_names(section.rois.labels), roi.roi_source(section.rois, root)
    by = Compared(root, labels_of, names, evaluation.min_roi_voxels, load_bundles())
    tables: dict[str, Rows] = {name: [] for name in COLUMNS}
    for row in units:
        found = compare_pair(
            load_pair(root, row, methods, section.target), {k: str(v) for k, v in row.items()}, lines, by
        )
        for name, rows in found.items():
            tables[name] += rows
    for name, columns in COLUMNS.items():
        write_table(root / f"{name}.tsv", printed(tables[name]), columns)
    write_text(root / "metrics.md", markdown(tables["metrics"], section.spacing_mm, section.target))
    print(f"wrote {', '.join(f'{name}.tsv' for name in COLUMNS)} and metrics.md to {root}")
