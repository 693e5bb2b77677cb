"""Tables about sites: scores of each, with and without harmonisation, and the harmonised features."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.downstream.analysis import Found, intervals, score
from m2m.downstream.combat import fitted_sites
from m2m.downstream.image_tables import Row
from m2m.downstream.inputs import Subjects
from m2m.downstream.prediction import LINEAR, METRICS, Predicted
from m2m.downstream.targets import Target
from m2m.options import Downstream
from m2m.options.downstream_options import NOISE_FREE

# In the place of a site's name.
ALL = "all sites"


def site_rows(target: Target, subjects: Subjects, found_by: Mapping[str, Found], options: Downstream) -> Iterator[Row]:
    """Yield each metric of the linear predictor among the participants of each site, and among all.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    found_by : mapping of str to dict
        Predictions by (input, predictor), by how features were harmonised.
    options : Downstream

    Yields
    ------
    dict
        Row of sites.tsv; none where there is one site only.
    """
    known = subjects.of(target.subjects)
    if not known.by_site:
        return
    every = ALL, np.arange(len(target.y))
    for harmonise, found in found_by.items():
        for (name, predictor), predicted in found.items():
            for site, members in (every, *known.by_site) if predictor == LINEAR else ():
                for metric, measure in METRICS[target.kind].items():

                    def value(
                        index: NDArray[np.intp], own: NDArray = members, p: Predicted = predicted, f: Any = measure
                    ) -> float:
                        return f(target.y[own[index]], p.of(own[index]))

                    yield {
                        "target": target.name,
                        "input": name,
                        "harmonise": harmonise,
                        "site": site,
                        **score(metric, *intervals(value, predicted.folds[members], options)),
                        "n_subjects": len(members),
                    }


def harmonised_rows(subjects: Subjects) -> Iterator[Row]:
    """Yield the features of each participant, harmonised as the participants of the other folds say.

    Parameters
    ----------
    subjects : Subjects

    Yields
    ------
    dict
        Row of harmonised.tsv.
    """
    images = {name: table for name, table in subjects.images.items() if name != NOISE_FREE}
    features = {name: np.full(table.shape, np.nan) for name, table in images.items()}
    for fold in np.unique(subjects.folds):
        test = subjects.folds == fold
        for name, table in images.items():
            features[name][test] = subjects.harmoniser(name)(table.to_numpy(float), ~test)[test]
    for i, subject in enumerate(subjects.names):
        row: Row = {"participant_id": subject, "site": subjects.sites[i], "fold": subjects.folds[i]}
        for name, table in images.items():
            row |= {f"{name}:{c}": value for c, value in zip(table.columns, features[name][i], strict=True)}
        yield row


def harmonisation_record(subjects: Subjects) -> dict[str, Any]:
    """Describe a harmonisation: participants of each site, columns preserved, sites left as they are in each fold."""
    sites, counts = np.unique(subjects.sites, return_counts=True)
    left = {}
    for fold in np.unique(subjects.folds).tolist():
        test = subjects.folds == fold
        left[fold] = sorted(set(subjects.sites[test].tolist()) - set(fitted_sites(subjects.sites[~test])))
    return {
        "sites": dict(zip(sites.tolist(), counts.tolist(), strict=True)),
        "preserved": sorted(subjects.preserved or {}),
        "left_as_they_are": {fold: names for fold, names in left.items() if names},
    }
