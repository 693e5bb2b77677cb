"""Inputs of the predictors: columns of features.tsv, combined by name.

Images and inputs are named in `m2m.options.downstream_options`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.cohort.spellings import Row, heading, number
from m2m.downstream.combat import MIN_OF_SITE, fit_combat, fitted_sites
from m2m.downstream.features import COVARIATE
from m2m.downstream.prediction import Harmonise, unchanged
from m2m.evaluate.metric_tables import over_sessions
from m2m.io.errors import DataError
from m2m.options.downstream_options import images_of, inputs_of

COVARIATES = "covariates"
# Site of participants without one.
UNKNOWN = "n/a"


@dataclass(frozen=True)
class Subjects:
    """Features of participants, one row each; a participant's sessions are averaged.

    Attributes
    ----------
    names : list of str
        Participants.
    folds, families, sites : ndarray of str, shape (participants,)
        A site that is not known is `UNKNOWN`.
    images : dict of str to DataFrame
        Features of each image, (participants, features), named as in features.tsv without the image;
        columns with a missing value are left out.
    covariates : DataFrame
        Brain volume and the chosen columns of participants.tsv.
    n_dropped : dict of str to int
        Number of columns of each image that were left out.
    preserved : dict of str to DataFrame, or None
        Columns of participants.tsv whose effects harmonisation keeps; None where features are not harmonised.
    """

    names: list[str]
    folds: NDArray[np.str_]
    families: NDArray[np.str_]
    images: dict[str, pd.DataFrame]
    covariates: pd.DataFrame
    n_dropped: dict[str, int]
    sites: NDArray[np.str_]
    preserved: dict[str, pd.DataFrame] | None = None

    def of(self, names: Sequence[str]) -> "Subjects":
        """Select participants, in this order."""
        rows = [self.names.index(name) for name in names]
        images = {name: table.iloc[rows] for name, table in self.images.items()}
        return Subjects(
            list(names),
            self.folds[rows],
            self.families[rows],
            images,
            self.covariates.iloc[rows],
            self.n_dropped,
            self.sites[rows],
            None if self.preserved is None else {c: table.iloc[rows] for c, table in self.preserved.items()},
        )

    @property
    def by_site(self) -> list[tuple[str, NDArray[np.intp]]]:
        """Known sites, and the indices of their participants; none where there is one site only."""
        names = [name for name in np.unique(self.sites) if name != UNKNOWN]
        return [(name, np.flatnonzero(self.sites == name)) for name in names] if len(names) > 1 else []

    def harmoniser(self, name: str, target: str | None = None) -> Harmonise:
        """Harmonisation of an input by sites.

        Parameters
        ----------
        name : str
            Input; the covariates are not harmonised.
        target : str, optional
            Predicted column, whose effect is not kept: features would tell it.

        Returns
        -------
        Harmonise
        """
        if self.preserved is None or name == COVARIATES:
            return unchanged
        columns = [t.to_numpy(float) for c, t in self.preserved.items() if target is None or c != heading(target)]
        kept = np.hstack([np.empty((len(self.names), 0)), *columns])

        def harmonise(x: NDArray, train: NDArray[np.bool_]) -> NDArray:
            return fit_combat(x[train], self.sites[train], kept[train]).apply(x, self.sites, kept)

        return harmonise


def load_participants(
    features: pd.DataFrame,
    table: Mapping[str, Row],
    covariates: Sequence[str],
    preserve: Sequence[str] | None = None,
) -> Subjects:
    """Combine features and covariates of the participants.

    Parameters
    ----------
    features : DataFrame
        features.tsv of `m2m features`.
    table : mapping of str to dict
        Row of participants.tsv of each participant.
    covariates : sequence of str
        Columns of participants.tsv; those that do not exist or have gaps are left out.
    preserve : sequence of str, optional
        Columns of participants.tsv whose effects harmonisation keeps; None: features are not harmonised.

    Returns
    -------
    Subjects

    Raises
    ------
    DataError
        Features are to be harmonised, and sites or preserved columns have gaps, or there is one site only.
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
    site = participants["site"] if "site" in participants else pd.Series(None, index=names)
    return Subjects(
        names,
        folds[names].astype(str).to_numpy(),
        groups.astype(str).to_numpy(),
        images,
        wanted,
        n_dropped,
        site.where(site.notna(), UNKNOWN).to_numpy(str),
        None if preserve is None else _preserved(participants, preserve),
    )


def _preserved(participants: pd.DataFrame, preserve: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Numbers of each preserved column, by the name that m2m reads it by; DataError where there is one site only."""
    sites = _complete(participants, "site")
    if not fitted_sites(sites.to_numpy(str)):
        raise DataError(
            f"there are not two sites of {MIN_OF_SITE} participants or more to harmonise",
            file="participants.tsv",
            value=", ".join(f"{name}: {n}" for name, n in sites.value_counts().items()),
            remedy="set downstream.harmonise to none",
        )
    columns = {heading(name): _numbers(_complete(participants, name)) for name in preserve}
    # Of a column of classes, the first class is the reference.
    return {name: table if table.shape[1] == 1 else table.iloc[:, 1:] for name, table in columns.items()}


def _complete(participants: pd.DataFrame, name: str) -> pd.Series:
    """Column of participants.tsv by its name, or by the name that m2m reads it by; DataError where it has gaps."""
    column = name if name in participants else heading(name)
    values = participants[column] if column in participants else pd.Series(None, participants.index, object)
    if len(lacking := values.index[values.isna()]):
        raise DataError(
            f"{len(lacking)} of {len(values)} participants have no {name}, which harmonisation needs",
            file="participants.tsv",
            value=", ".join(lacking),
            remedy=f"complete the column, or have participants without it left out (cohort.require: [{name}])",
        )
    return values


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
