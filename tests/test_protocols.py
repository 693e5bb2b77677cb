"""Protocols of published tables: planned on empty files of each data set's layout, shown beside m2m's own values."""

import json
import re
import subprocess

import pytest
from cohort_tree import write_rows
from workflow import CHECKOUT, PLAN, first_on_path, planned, snakemake

from m2m.cohort import index
from m2m.cohort.split import split_participants
from m2m.evaluate.metric_records import METRICS, REGIONS, has
from m2m.io.bids import unit_folder
from m2m.io.files import write_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table, write_table
from m2m.options import load_config

PROTOCOLS = sorted(path.stem for path in (CHECKOUT / "protocols").glob("*.yaml"))
ADNI = ["sub-ADNI002S0295_ses-M000", "sub-ADNI011S0002_ses-M000", "sub-ADNI941S4036_ses-M000"]
ABCD = [f"sub-NDARINV00{letter}_ses-baselineYear1Arm1" for letter in "ABC"]
SITES = {"sub-UKB1": "UKB", "sub-UKB2": "UKB", "sub-RUNDMC1": "RUNDMC", "sub-NETWORKS1": "NETWORKS"}
# Units, and what stands between them and the suffix in the names of their scans.
UNITS = {
    "adni-128": (ADNI, ""),
    "adni-2mm": (ADNI, ""),
    "abcd-central-slices": (ABCD, "_run-01"),
    "small-vessel-disease": (list(SITES), ""),
}
TESTED = {"small-vessel-disease": {"sub-RUNDMC1", "sub-NETWORKS1"}, "tractoinferno": {"sub-1006"}}


def touch(path):
    """Make an empty file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def add_scans(folder, stem, dwi="dwi"):
    """Add the empty files of a T1w and of a DWI."""
    touch(folder / "anat" / f"{stem}T1w.nii.gz")
    for suffix in ("nii.gz", "bval", "bvec"):
        touch(folder / "dwi" / f"{stem}{dwi}.{suffix}")


def tractoinferno(folder):
    """Lay out TractoInferno as it is published, and link it as docs/data.md says."""
    for part, subject in {"trainset": "sub-1160", "validset": "sub-1001", "testset": "sub-1006"}.items():
        add_scans(folder / "ds003900/derivatives" / part / subject, f"{subject}__")
    section = (CHECKOUT / "docs/data.md").read_text().split("### TractoInferno\n")[1]
    (links,) = re.findall(r"^    mkdir tractoinferno\n(?:    .*\n)+", section, re.M)
    subprocess.run(["bash", "-euc", links], cwd=folder, check=True)
    return folder / "tractoinferno"


def lay_out(name, folder):
    """Empty scans in the layout of a protocol's data set."""
    if name == "tractoinferno":
        return tractoinferno(folder)
    root = folder / "data set"
    units, entities = UNITS[name]
    for unit in units:
        add_scans(root / unit_folder(unit), f"{unit}{entities}_")
    (root / "dataset_description.json").write_text(json.dumps({"Name": name, "BIDSVersion": "1.9.0"}))
    if name == "small-vessel-disease":
        write_rows(root / "participants.tsv", ("participant_id", "site"), *SITES.items())
    return root


def as_if_valid(root, cohort, options):
    """Write the tables of the cohort, as if all scans that are found were valid; the test participants."""
    index.main(root, cohort / "manifest.tsv")
    scans = {}
    for row in read_table(cohort / "manifest.tsv"):
        if row["left_out"] is None:
            unit = "_".join(filter(None, (row["participant_id"], row["session_id"])))
            scans.setdefault(unit, {"participant_id": row["participant_id"]})[row["suffix"]] = row
    units = [
        {"unit": unit, "folder": unit_folder(unit), "participant_id": one["participant_id"], "state": "paired"}
        | {"t1w": one["T1w"]["path"], "dwi": one["dwi"]["path"], "bval": one["dwi"]["bval"], "bvec": one["dwi"]["bvec"]}
        for unit, one in scans.items()
    ]
    assert units and all(row["bval"] and row["bvec"] for row in units)
    columns = (*units[0], "session_id", "t1w_mask", "dwi_mask", "joined", "reason")
    write_table(cohort / "units.tsv", units, columns)
    write_table(cohort / "cohort_status.tsv", [], ["unit"])
    table = root / "participants.tsv"
    sites = {row["participant_id"]: row["site"] for row in read_table(table)} if table.exists() else {}
    ids = sorted({row["participant_id"] for row in units})
    parts = split_participants([{"participant_id": one, "site": sites.get(one)} for one in ids], options)
    write_table(cohort / "split.tsv", parts, ["participant_id", "part"])
    write_json(cohort / "split.json", {})
    return {row["participant_id"] for row in parts if row["part"] == "test"}


@pytest.mark.workflow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_planned_on_the_layout_of_its_data_set(name, tmp_path):
    file = f"protocols/{name}.yaml"
    config = load_config(CHECKOUT / file)
    root = lay_out(name, tmp_path)
    tested = as_if_valid(root, tmp_path / "results" / config.dataset / "cohort", config.split)
    assert tested == TESTED.get(name, tested) and len(tested) >= 1
    for program in ("any", *config.preprocess.commands):
        touch(tmp_path / "bin" / program)
        (tmp_path / "bin" / program).chmod(0o755)
    with first_on_path(tmp_path / "bin/any"):
        run = snakemake(tmp_path, *PLAN, "--config", f"cohort={{bids_dir: '{root}'}}", configfile=file)
    assert run.returncode == 0, run.stdout
    jobs, n_models = planned(run.stdout), sum(len(task.models) for task in config.tasks.values())
    assert jobs["evaluate_model"] == n_models
    assert jobs.get("translate_volume", 0) + jobs.get("translate_tensor", 0) == n_models
    assert jobs["tables_of_task"] == len(config.tasks) and jobs["page_of_report"] == 1
    assert "simulate" not in jobs and jobs["dti"] == len(
        read_table(tmp_path / f"results/{config.dataset}/cohort/units.tsv")
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_a_protocol_compares_is_a_metric_of_its_task(name):
    config = load_config(CHECKOUT / f"protocols/{name}.yaml")
    for task, regions in config.published.values.items():
        nature = MODALITIES[config.tasks[task].target].nature
        for region, metrics in regions.items():
            assert region in REGIONS
            for metric in metrics:
                assert region in METRICS[metric].regions and has(METRICS[metric].natures, nature), metric
                assert metric in config.published.definitions
    assert "central" not in json.dumps(config.published.values) or config.evaluation.central_share < 1
    assert "ms_ssim" not in json.dumps(config.published.values) or config.evaluation.ms_ssim
