"""Inputs of the predictors: columns of features.tsv, combined by name.

Images and inputs are named in `m2m.options.downstream_options`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.cohort.spellings import Row, heading, number
from m2m.downstream.features import COVARIATE
from m2m.evaluate.metric_tables import over_sessions
from m2m.options.downstream_options import images_of, inputs_of

COVARIATES = "covariates"


@dataclass(frozen=True)
class Subjects:
    """Features of participants, one row each; a participant's sessions are averaged.

    Attributes
    ----------
    names : list of str
        Participants.
    folds, families : ndarray of str, shape (participants,)
    images : dict of str to DataFrame
        Features of each image, (participants, features), named as in features.tsv without the image;
        columns with a missing value are left out.
    covariates : DataFrame
        Brain volume and the chosen columns of participants.tsv.
    n_dropped : dict of str to int
        Number of columns of each image that were left out.
    """

    names: list[str]
    folds: NDArray[np.str_]
    families: NDArray[np.str_]
    images: dict[str, pd.DataFrame]
    covariates: pd.DataFrame
    n_dropped: dict[str, int]

    def of(self, names: Sequence[str]) -> "Subjects":
        """Select participants, in this order."""
        rows = [self.names.index(name) for name in names]
        images = {name: table.iloc[rows] for name, table in self.images.items()}
        return Subjects(
            list(names), self.folds[rows], self.families[rows], images, self.covariates.iloc[rows], self.n_dropped
        )


def load_participants(features: pd.DataFrame, table: Mapping[str, Row], covariates: Sequence[str]) -> Subjects:
    """Combine features and covariates of the participants.

    Parameters
    ----------
    features : DataFrame
        features.tsv of `m2m features`.
    table : mapping of str to dict
        Row of participants.tsv of each participant.
    covariates : sequence of str
        Columns of participants.tsv; those that do not exist or have gaps are left out.

    Returns
    -------
    Subjects
    """
    numbers = features.select_dtypes("number").columns
    rows = over_sessions(features, [], numbers).set_index("participant_id").sort_index()
    folds = features.groupby("participant_id")["fold"].first()
    images, n_dropped = {}, {}
    for image in dict.fromkeys(c.split(":")[0] for c in rows.columns if ":" in c):
        own = [column for column in rows.columns if column.startswith(f"{image}:")]
        every = rows[own].rename(columns=lambda c: c.split(":", 1)[1])
        images[image] = every.dropna(axis=1)
        n_dropped[image] = every.shape[1] - images[image].shape[1]
    names = list(rows.index)
    participants = pd.DataFrame([table.get(name, {}) for name in names], index=names)
    wanted = pd.DataFrame({COVARIATE: rows[COVARIATE]})
    for column in (name if name in participants else heading(name) for name in covariates):
        if column in participants and participants[column].notna().all():
            wanted = wanted.join(_numbers(participants[column]))
    family = participants["family_id"] if "family_id" in participants else pd.Series(None, index=names)
    groups = family.where(family.notna(), pd.Series(names, index=names))
    return Subjects(
        names, folds[names].astype(str).to_numpy(), groups.astype(str).to_numpy(), images, wanted, n_dropped
    )


def _numbers(column: pd.Series) -> pd.DataFrame:
    """The column itself where all its values are numbers, else one column of 0 and 1 for each value."""
    values = [number(cell) for cell in column]
    if None not in values:
        return pd.DataFrame({column.name: values}, index=column.index)
    return pd.get_dummies(column, prefix=column.name, dtype=float)


def combinations(subjects: Subjects) -> dict[str, NDArray[np.float64]]:
    """Features of each input, shape (participants, features): covariates, images alone, images with the T1."""
    images = {name: table.to_numpy(float) for name, table in subjects.images.items()}
    return {COVARIATES: subjects.covariates.to_numpy(float)} | {
        joined: np.hstack([images[name] for name in images_of(joined)]) for joined in inputs_of(images)
    }
