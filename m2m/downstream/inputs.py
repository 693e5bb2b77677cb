"""What predictors see: columns of features.tsv, put together by name.

Images and inputs are named in `m2m.options.downstream_options`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.cohort.participants import Row, number
from m2m.downstream.features import COVARIATE
from m2m.options.downstream_options import images_of, inputs_of

COVARIATES = "covariates"


@dataclass(frozen=True)
class People:
    """Features of people, one row each; a person's sessions are averaged.

    Attributes
    ----------
    names : list of str
        Participants.
    folds, families : ndarray of str, shape (people,)
    images : dict of str to DataFrame
        Features of each image, (people, features), named as in features.tsv without the image;
        columns that somebody lacks are left out.
    covariates : DataFrame
        Brain volume and the wanted columns of participants.tsv.
    n_dropped : dict of str to int
        Columns of each image that somebody lacks.
    """

    names: list[str]
    folds: NDArray[np.str_]
    families: NDArray[np.str_]
    images: dict[str, pd.DataFrame]
    covariates: pd.DataFrame
    n_dropped: dict[str, int]

    def of(self, names: Sequence[str]) -> "People":
        """Some of the people, in this order."""
        rows = [self.names.index(name) for name in names]
        images = {name: table.iloc[rows] for name, table in self.images.items()}
        return People(
            list(names), self.folds[rows], self.families[rows], images,
            self.covariates.iloc[rows], self.n_dropped,
        )  # fmt: skip


def load_people(
    features: pd.DataFrame, table: Mapping[str, Row], covariates: Sequence[str]
) -> People:
    """Gather what is known of each person.

    Parameters
    ----------
    features : DataFrame
        features.tsv of `m2m features`.
    table : mapping of str to dict
        Row of participants.tsv of each participant.
    covariates : sequence of str
        Columns of participants.tsv; those that do not exist are left out.
    """
    rows = features.groupby("participant_id").mean(numeric_only=True)
    folds = features.groupby("participant_id")["fold"].first()
    images, n_dropped = {}, {}
    for image in dict.fromkeys(c.split(":")[0] for c in rows.columns if ":" in c):
        own = [column for column in rows.columns if column.startswith(f"{image}:")]
        every = rows[own].rename(columns=lambda c: c.split(":", 1)[1])
        images[image] = every.dropna(axis=1)
        n_dropped[image] = every.shape[1] - images[image].shape[1]
    names = list(rows.index)
    about = pd.DataFrame([table.get(name, {}) for name in names], index=names)
    wanted = pd.DataFrame({COVARIATE: rows[COVARIATE]})
    for column in covariates:
        if column in about and about[column].notna().all():
            wanted = wanted.join(_numbers(about[column]))
    family = about["family_id"] if "family_id" in about else pd.Series(None, index=names)
    groups = family.where(family.notna(), pd.Series(names, index=names))
    return People(
        names, folds[names].astype(str).to_numpy(), groups.astype(str).to_numpy(), images, wanted,
        n_dropped,
    )  # fmt: skip


def _numbers(column: pd.Series) -> pd.DataFrame:
    """A column as it is, where all of it are numbers, else one column of 0 and 1 for each value."""
    values = [number(cell) for cell in column]
    if None not in values:
        return pd.DataFrame({column.name: values}, index=column.index)
    return pd.get_dummies(column, prefix=column.name, dtype=float)


def combinations(people: People) -> dict[str, NDArray[np.float64]]:
    """Features of each input, shape (people, features): covariates, images alone, beside the T1."""
    images = {name: table.to_numpy(float) for name, table in people.images.items()}
    return {COVARIATES: people.covariates.to_numpy(float)} | {
        seen: np.hstack([images[name] for name in images_of(seen)]) for seen in inputs_of(images)
    }
