"""Tables and descriptions of the simulated dataset: participants, names of the bundles, README."""

from functools import cache
from pathlib import Path
from typing import Any

from m2m import GENERATED_BY
from m2m.cohort.participants import age_of, known_participants
from m2m.cohort.spellings import Row
from m2m.io.dataset_links import RAW, links
from m2m.io.files import write_json, write_text
from m2m.io.tables import write_table
from m2m.options import Phantom, Simulation, Template
from m2m.phantom import anatomy_of, individuals, labels, list_anatomies
from m2m.phantom.bundles import NAMES
from m2m.phantom.group_streamlines import load_segments

BIDS_VERSION = "1.9.0"
README = """\
Simulated participants
======================

{source} DWI: one shell, Rician noise, {distortion};
the head moves a little between the two scans. {oblique} These images test software. They give no
information about the human brain.
"""
PHANTOM = """\
All images of this dataset are simulated by m2m from the MNI152 anatomy (average T1, grey and white
matter maps of 152 participants, without skull). No participant was scanned. T1w: no skull, smooth
receive bias, Rician noise; DWI: multi-tensor signal."""
TEMPLATE = """\
All images of this dataset are made by m2m of real parts: real T1s, deformed and varied, and the
FA of a group and the directions of a group's streamlines, carried into each T1 by registration. No
diffusion of these brains was measured: the diffusion signal is simulated."""
COLUMNS = {
    "age": {"Description": "Age at the scan", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "family_id": {"Description": "Whose T1 the participant is made of"},
    "site": {"Description": "Simulated scanner, by its name in cohort.phantom.scanners"},
}


def known_participant(section: Template, label: str, anatomies: list[Path]) -> tuple[Path, float | None, str | None]:
    """T1 that a participant is made of, and the age and sex that belong to it; None where they are not known."""
    path = anatomy_of(label, anatomies)
    row = _known(section.anatomies / "participants.tsv").get(path.name.partition("_")[0], {})
    sex = row.get("sex")
    return path, age_of(row), sex if sex in ("F", "M") else None


@cache
def _known(table: Path) -> dict[str, Row]:
    """Row of each anatomy, by identifier; none where there is no table."""
    return known_participants(table) if table.is_file() else {}


def participants_of(section: Simulation) -> list[dict[str, Any]]:
    """Rows of participants.tsv; participants of one anatomy are a family, which the split keeps together."""
    rows: list[dict[str, Any]] = []
    if isinstance(section, Template):
        anatomies = list_anatomies(section.anatomies)
        for label in labels(section.n_subjects):
            path, age, sex = known_participant(section, label, anatomies)
            family = path.name.partition("_")[0].removeprefix("sub-")
            rows.append({"participant_id": f"sub-{label}", "age": age, "sex": sex, "family_id": family})
        return rows
    assert isinstance(section, Phantom)
    for label in labels(section.n_subjects):
        site = individuals.scanner_of(section, label)
        age, sex = individuals.demography(section.of_scanner(site), label)
        row = {"participant_id": f"sub-{label}", "age": age, "sex": sex}
        rows.append(row | ({"site": site} if site else {}))
    return rows


def bundle_names(section: Simulation) -> tuple[str, ...]:
    """Names of the bundles that participants have, in the order of their numbers."""
    return load_segments(section.bundles).names if isinstance(section, Template) else NAMES


def write_tables(
    participants: Path,
    sidecar: Path,
    description: Path,
    readme: Path,
    truth_description: Path,
    labels_table: Path,
    section: Simulation,
) -> None:
    """Write the tables of the simulated dataset.

    Parameters
    ----------
    participants, sidecar : path
        Table of the participants, and the JSON that describes its columns.
    description, readme : path
        Of the raw dataset.
    truth_description : path
        Of the derivative with the ground truth.
    labels_table : path
        Number and name of each bundle.
    section : Simulation
    """
    linked = links(truth_description.parent, str(description.parent))
    rows = participants_of(section)
    write_table(participants, rows, tuple(rows[0]))
    write_json(sidecar, {column: COLUMNS[column] for column in rows[0] if column in COLUMNS})
    real = isinstance(section, Template)
    kind = "of real parts" if real else "m2m phantom"
    write_json(
        description,
        {
            "Name": f"Simulated participants ({kind})",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            **({} if real else {"License": "CC0"}),
            "GeneratedBy": GENERATED_BY,
        },
    )
    write_json(
        truth_description,
        {
            "Name": f"Ground truth of simulated participants ({kind})",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": GENERATED_BY,
            "SourceDatasets": [{"URL": linked[RAW]}],
            "DatasetLinks": linked,
        },
    )
    source = TEMPLATE if real else PHANTOM
    write_text(readme, README.format(source=source, distortion=distortion(section), oblique=_oblique(section)))
    write_table(
        labels_table,
        ({"index": i, "name": name} for i, name in enumerate(bundle_names(section), 1)),
        ("index", "name"),
    )


def write_sessions(path: Path, section: Phantom, label: str) -> None:
    """Write the sessions.tsv of a participant with several visits: the age at each."""
    ages = [individuals.draw(section, label, visit).age_years for visit in range(len(section.sessions))]
    rows = ({"session_id": name, "age": f"{age:g}"} for name, age in zip(section.sessions, ages, strict=True))
    write_table(path, rows, ("session_id", "age"))


def distortion(section: Simulation) -> str:
    """Describe the distortion of the DWI."""
    mm = section.distortion_mm
    return f"distorted by up to {mm:g} mm" if mm else "no distortion"


def _oblique(section: Simulation) -> str:
    """Describe the orientation of the scans."""
    deg = section.oblique_deg
    return f"Both scans are oblique, by up to {deg:g} degrees." if deg else "No scan is oblique."
