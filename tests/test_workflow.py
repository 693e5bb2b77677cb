"""The workflow parses, plans and refuses: dry runs only, nothing is executed."""

import functools
import re
import shlex

import pytest
import yaml
from cohort_tree import add_dwi, add_t1, dataset
from workflow import CHECKOUT, PLAN, planned, snakemake

from m2m.io.tables import read_table
from m2m.options import Config, load_config, merged

SHIPPED = [
    "config.yaml",
    "config.paper.yaml",
    "tests/config.yaml",
    "tests/real.yaml",
    "tests/downstream.yaml",
]
pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Function: job counts of a target of tests/config.yaml, in an empty folder; each is planned once."""

    @functools.cache
    def jobs(*targets):
        run = snakemake(tmp_path_factory.mktemp("plan"), *targets, *PLAN)
        assert run.returncode == 0, run.stdout
        return planned(run.stdout)

    return jobs


@pytest.mark.parametrize("name", ["null", "fa-only"])
def test_configurations_over_the_validation_s_are_valid(name):
    files = "tests/downstream.yaml", f"tests/downstream-{name}.yaml"
    base, over = (yaml.safe_load((CHECKOUT / file).read_text()) for file in files)
    effects = Config.model_validate(merged(base, over)).cohort.phantom.effects
    assert effects.brain_volume_male == effects.ventricle_per_decade == 0
    assert (effects.fa_per_decade == 0) == (name == "null") == effects.in_t1


def test_the_study_of_misaligned_labels_is_planned_over_the_demo(tmp_path):
    run = snakemake(tmp_path, "fgdl", *PLAN, "--configfile", "config.yaml", "tests/misaligned.yaml")
    assert run.returncode == 0, run.stdout
    jobs = planned(run.stdout)
    assert jobs["measure_label_correction"] == jobs["apply_label_correction"] == 1 and jobs["train_model"] == 14


def test_the_comparison_on_many_participants_is_planned_over_the_demo(tmp_path):
    table = "results/many/evaluate/same-steps/summary.tsv"
    run = snakemake(tmp_path, table, *PLAN, "--configfile", "config.yaml", "tests/many.yaml")
    assert run.returncode == 0, run.stdout
    jobs = planned(run.stdout)
    assert jobs["simulate"] == 56 and jobs["train_model"] == 10


def test_harmonisation_over_scanners_is_planned_over_the_validation(tmp_path):
    files = [f"tests/{name}.yaml" for name in ("downstream", "sites", "sites-left-out")]
    run = snakemake(tmp_path, "results/sites/downstream/harmonised.tsv", *PLAN, "--configfile", *files)
    assert run.returncode == 0, run.stdout
    jobs = planned(run.stdout)
    assert jobs["simulate"] == 120 and jobs["predict_phenotypes"] == 1
    contents = [yaml.safe_load((CHECKOUT / file).read_text()) for file in (*files[:2], "tests/sites-null.yaml")]
    phantom = Config.model_validate(functools.reduce(merged, contents)).cohort.phantom
    assert phantom.effects.fa_per_decade == 0 and list(phantom.scanners) == ["north", "east", "south"]


def write_config(folder, **changes):
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text()) | changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_is_valid(name):
    assert load_config(CHECKOUT / name).tasks


def test_dry_run_plans_every_simulated_participant(plan):
    jobs = plan()
    assert jobs["simulate"] == 6
    assert jobs["index"] == jobs["validate"] == jobs["split"] == 1


def test_a_quiet_plan_is_the_table_of_jobs_and_no_text_of_a_job(tmp_path):
    run = snakemake(tmp_path, "-n", "--quiet")
    assert run.returncode == 0, run.stdout
    assert planned(run.stdout)["simulate"] == 6
    assert "jobid" not in run.stdout and "reason" not in run.stdout


def test_who_takes_part_is_asked_before_anything_is_computed(plan):
    assert {"index", "validate", "split"} < plan("cohort").keys()
    assert not {"dti", "anat", "train_model"} & plan("cohort").keys()


def test_dry_run_of_a_dataset_on_disk_simulates_no_participant(tmp_path, shared_data):
    config = write_config(tmp_path, cohort={"source": "bids", "bids_dir": str((shared_data / "bids").resolve())})
    run = snakemake(tmp_path, *PLAN, configfile=config)
    assert run.returncode == 0, run.stdout
    assert "simulate" not in planned(run.stdout)


@pytest.mark.parametrize(("page", "models"), [("compare", 10), ("ablation", 3), ("fgdl", 7)])
def test_a_page_is_planned_only_on_request(plan, page, models):
    jobs = plan(page)
    assert jobs["train_model"] == models and jobs[f"page_of_{page}"] == 1
    assert "page_of_report" not in jobs
    assert jobs.get("train_encoder", 0) == (page == "ablation")
    assert plan()["page_of_report"] == 1 and f"page_of_{page}" not in plan()


def test_the_files_for_a_paper_are_figures_tables_and_methods_of_every_page(plan):
    jobs = plan("figures")
    assert jobs["figures_of_report"] == jobs["methods_of_report"] == 1
    assert jobs["tables_of_task"] == 6 and "page_of_report" not in jobs
    jobs = plan("ablation")
    assert jobs["figures_of_ablation"] == jobs["methods_of_ablation"] == jobs["tables_of_task"] == 1


def test_fields_are_planned_only_on_request(plan):
    assert plan("field")["field"] == 1
    assert plan("render")["render"] == 1
    assert not plan().keys() & {"field", "fit_field", "render_field"}


def test_a_page_that_the_configuration_lacks_is_a_clear_error(tmp_path):
    config = write_config(tmp_path, tasks={"t1-fa": {"models": ["mean"]}}, downstream={})
    run = snakemake(tmp_path, "compare", "-n", configfile=config)
    assert run.returncode != 0
    assert "No task has page: compare; config.yaml" in run.stdout


def test_phenotypes_are_predicted_only_on_request(plan, tmp_path):
    jobs = plan("downstream")
    assert jobs["page_of_downstream"] == jobs["predict_phenotypes"] == 1
    assert jobs["train_model"] == 2 * 2  # tasks and folds
    assert "folds" not in plan()
    config = write_config(tmp_path, downstream={"targets": {"age": "regression"}})
    run = snakemake(tmp_path, "downstream", *PLAN, configfile=config)
    assert "no downstream.tasks or no downstream.targets" in run.stdout


def test_real_pairs_are_compared_only_on_request(plan, tmp_path):
    weights = "results/tiny/models/t1-fa/mean/model.safetensors"
    real = {"bids_dir": str(tmp_path / "bids"), "weights": {"mean": weights, "other": "t1-fa"}}
    run = snakemake(tmp_path, "real", *PLAN, configfile=write_config(tmp_path, real=real))
    jobs = planned(run.stdout)
    assert jobs["translate_pairs"] == jobs["compare_pairs"] == jobs["figures_of_pairs"] == 1, run.stdout
    assert jobs["train_model"] == 1, "weights of the study are trained first"
    assert "translate_pairs" not in plan()
    assert "no real.bids_dir" in snakemake(tmp_path, "real", *PLAN).stdout


def test_a_misspelt_key_stops_the_dry_run_by_name(tmp_path):
    run = snakemake(tmp_path, "-n", configfile=write_config(tmp_path, dti={"fitt": "WLS"}))
    assert run.returncode != 0
    assert "dti.fitt: there is no such key" in run.stdout


def test_a_missing_dataset_stops_the_dry_run_by_name(tmp_path):
    cohort = {"source": "bids", "bids_dir": str(tmp_path / "nowhere")}
    run = snakemake(tmp_path, "-n", configfile=write_config(tmp_path, cohort=cohort))
    assert run.returncode != 0
    assert f"cohort.bids_dir: there is no folder {tmp_path}/nowhere" in run.stdout


def test_an_unknown_model_in_a_task_stops_the_dry_run_by_name(tmp_path):
    config = write_config(tmp_path, tasks={"t1-fa": {"models": ["macro3micro"]}}, downstream={})
    run = snakemake(tmp_path, "-n", configfile=config)
    assert run.returncode != 0
    assert "macro3micro" in run.stdout


def test_a_missing_program_of_a_backend_stops_the_dry_run_by_name(tmp_path):
    config = write_config(tmp_path, preprocess={"backend": "fsl"})
    run = snakemake(tmp_path, "-n", configfile=config)
    assert run.returncode != 0
    assert "eddy" in run.stdout
    assert "PATH" in run.stdout


def test_no_path_or_title_is_run_by_the_shell(tmp_path):
    hostile = "my $(touch 1) `touch 2` 'q' \"d\" ünï; touch 3 & *"
    root = dataset(
        tmp_path / "raw" / hostile, "sub-01", "sub-02", "sub-03", "sub-$(touch 4)", "sub-{unit}", "sub-x\nsub-01"
    )
    for label, name in (("04", "{x}"), ("05", "a\nb"), ("06", "\udcff")):
        add_t1(root, f"sub-{label}", entities=f"_acq-{name}")
        add_dwi(root, f"sub-{label}")
    config = write_config(
        tmp_path,
        cohort={"source": "bids", "bids_dir": str(root)},
        results=hostile,
        report={"title": hostile},
        downstream={},
    )
    split = f"{hostile}/tiny/cohort/split.tsv"
    run = snakemake(tmp_path, "--cores", "1", split, configfile=config)
    assert run.returncode == 0, run.stdout
    assert len((tmp_path / split).read_text().splitlines()) == 1 + 3
    units = {row["unit"]: row for row in read_table(tmp_path / hostile / "tiny/cohort/units.tsv")}
    assert [unit for unit, row in units.items() if row["state"] == "paired"] == ["sub-01", "sub-02", "sub-03"]
    assert {units[f"sub-0{i}"]["state"] for i in (4, 5, 6)} == {"dwi-only"}
    assert {units[f"sub-{label}"]["state"] for label in ("$(touch 4)", "{unit}", r"x\nsub-01")} == {"failed"}
    run = snakemake(tmp_path, "-n", "-p", configfile=config)
    assert run.returncode == 0, run.stdout
    commands = re.findall(r"^ *(?:Shell command: )?(?:trap '' TERM; |M2M_MADE_BY=[\w-]+ )?(m2m .+)$", run.stdout, re.M)
    called = {shlex.split(command)[1] for command in commands}
    assert {"anat", "dti", "tractography", "grid", "train", "synthesise", "report"} <= called
    for command in commands:
        # The command without its quoted arguments.
        bare = re.sub(r"""'[^']*'|"'"|\\.""", "", command)
        assert re.fullmatch(r"[\w ./=|>&+-]+", bare), command
    assert not list(tmp_path.rglob("[1-4]"))


@pytest.mark.parametrize("key", ["results", "cohort.bids_dir"])
def test_a_path_with_braces_stops_the_dry_run_by_name(tmp_path, key):
    section = {"source": "bids", "bids_dir": "{unit}"}
    changes = {"results": "a{b}"} if key == "results" else {"cohort": section}
    run = snakemake(tmp_path, "-n", configfile=write_config(tmp_path, **changes))
    assert run.returncode != 0
    assert key in run.stdout and "braces" in run.stdout


def test_snakemake_lint_finds_nothing(tmp_path):
    run = snakemake(tmp_path, "--lint")
    assert run.returncode == 0, run.stdout
