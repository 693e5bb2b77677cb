"""Tables about images: effects of phenotypes on regions, their agreement, principal components."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from m2m.downstream.effects import hedges_g
from m2m.downstream.features import BIN
from m2m.downstream.inputs import Subjects
from m2m.downstream.targets import Target
from m2m.evaluate.statistics import slope
from m2m.options.downstream_options import FA, NOISE_FREE, with_measured

Row = dict[str, Any]


def effect_rows(target: Target, subjects: Subjects) -> Iterator[Row]:
    """Yield the slope of each region's mean on a number, or Hedges' g between two classes."""
    if len(target.classes) > 2:
        return
    for image, table in subjects.of(target.subjects).images.items():
        for region in (column for column in table if not column.startswith(BIN)):
            y = table[region].to_numpy(float)
            if target.kind == "regression":
                kind, effect = "slope", slope(target.y, y)
            else:
                kind = f"g, {target.classes[1]} minus {target.classes[0]}"
                effect = hedges_g(y[target.y == 1], y[target.y == 0])
            yield {"target": target.name, "image": image, "region": region, "effect": kind, **asdict(effect)}


def recovery_rows(effects: Iterable[Row], measured_of: Mapping[str, str | None]) -> Iterator[Row]:
    """Yield the agreement of the effects on regions between one image and another.

    Parameters
    ----------
    effects : iterable of dict
        Rows of `effect_rows`.
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.

    Yields
    ------
    dict
        Row of recovery.tsv. ``n_within`` counts regions whose interval holds the reference's value, ``n_same_sign``
        those with an effect of the same sign; ``r`` is Pearson's over regions.
    """
    table = pd.DataFrame(list(effects))
    if table.empty:
        return
    compared = with_measured(measured_of)
    wanted = list(compared.items())
    wanted += [(FA, NOISE_FREE)] + [(name, NOISE_FREE) for name, measured in compared.items() if measured == FA]
    for (target, effect), own in table.groupby(["target", "effect"], sort=False):
        by_image = {name: rows.set_index("region") for name, rows in own.groupby("image")}
        for image, reference in wanted:
            if image not in by_image or reference not in by_image:
                continue
            both = by_image[image].join(by_image[reference]["value"].rename("reference"), how="inner")
            within = both["reference"].between(both["low"], both["high"])
            r = both["value"].corr(both["reference"]) if len(both) > 2 else float("nan")
            yield {
                "target": target,
                "effect": effect,
                "image": image,
                "reference": reference,
                "n_regions": len(both),
                "n_within": int(within.sum()),
                "n_same_sign": int((both["value"] * both["reference"] > 0).sum()),
                "r": r,
                "mean": both["value"].mean(),
                "mean_reference": both["reference"].mean(),
            }


def embedding_rows(subjects: Subjects) -> Iterator[Row]:
    """Yield the first two principal components of each image's standardised features."""
    for image, table in subjects.images.items():
        if image == NOISE_FREE:
            continue
        components = make_pipeline(StandardScaler(), PCA(2, random_state=0))
        places = components.fit_transform(table.to_numpy(float))
        shares = components[-1].explained_variance_ratio_
        for name, (first, second) in zip(subjects.names, places, strict=True):
            yield {
                "image": image,
                "participant_id": name,
                "pc1": first,
                "pc2": second,
                "share1": shares[0],
                "share2": shares[1],
            }
