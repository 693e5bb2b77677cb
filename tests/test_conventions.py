"""What others expect of a repository: it is as their tools read it, and true of the code."""

import re

import yaml
from checkout import PROJECT, ROOT

from m2m.options import Config

MAKEFILE = (ROOT / "Makefile").read_text()


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_configuration_s_readme_names_every_section_and_no_other():
    text = (ROOT / "config" / "README.md").read_text()
    _, sections = text.split("| section | what it decides |\n")
    cells = re.findall(r"^\| (`.+?`) \|", sections, re.M)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named | {"dataset"} == Config.model_fields.keys()
    (keys, _) = text.split("| section | what it decides |\n")
    for path in re.findall(r"`([a-z_]+)\.([a-z_]+)`(?=[ ,])", keys.split("| key | value |")[1]):
        section, key = path
        assert key in Config.model_fields[section].annotation.model_fields, path


def test_the_catalog_s_instructions_install_extras_that_exist():
    usage = read_yaml(".snakemake-workflow-catalog.yml")["usage"]
    assert usage.keys() <= {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    (extras,) = re.findall(r"'\.\[(.+?)\]'", usage["mandatory-flags"]["desc"])
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    # Snakemake builds environments only where rules name one.
    assert usage["software-stack-deployment"] == {"conda": True}
    assert any("conda:" in path.read_text() for path in ROOT.glob("rules/*.smk"))


def test_the_hosted_checks_are_those_of_ci_run_and_nothing_else():
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    used, called = job["steps"]
    assert used.keys() == {"uses"} and used["uses"].startswith("actions/checkout@")
    assert called == {"run": "bash .ci/run"}


def test_the_last_of_the_checks_that_is_printed_is_the_test_runner():
    script = (ROOT / ".ci/run").read_text()
    (last,) = re.findall(r'^run (.+) > "\$printed" 2>&1 &$', script, re.M)
    assert "-m pytest -m end_to_end" in last and script.endswith('cat "$printed"\nexit "$status"\n')
    called = re.findall(r"^run make (\w+)(.*) \|\| status=\$\?$", script, re.M)
    assert [target for target, _ in called] == ["test", "lint", "site"]
    assert "--cov" in called[0][1], "coverage is printed before"


def test_the_hooks_of_a_commit_are_lint_s_commands_in_the_environment_s_own_tools():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = {hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]}
    commands = re.findall(r"^\t\$\(BIN\)/((?:ruff|snakefmt) .*)$", MAKEFILE, re.M)
    whole = {command.replace(" Snakefile rules", "").removesuffix(" .") for command in commands}
    assert entries == {f".venv/bin/{command}" for command in whole}
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_contributing_gives_subjects_and_targets_as_they_are():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    subjects = re.findall(r"^    ([a-z]+: .+)$", text, re.M)
    assert len(subjects) >= 2 and all(len(subject) <= 72 for subject in subjects)
    targets = set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, re.M)[1].split())
    assert {"install", "test", "lint"} <= set(re.findall(r"^    make ([a-z]+)", text, re.M)) <= targets
    assert "Report a wrong number" in text
