"""The command line: fast help, lazy stages, errors that a user can act on."""

import os
import re
import resource
import subprocess
import sys
import types
from itertools import chain
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import m2m
from m2m import cli
from m2m.io.errors import DataError
from m2m.io.versions import VERSIONS
from m2m.train.loop import STOPPED
from m2m.translate import SOME_FAILED

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch):
    """Call `m2m` with one made-up stage, `sum`, with the real ones."""

    def stage(count: int, scale: float = 1.0):
        if count < 0:
            raise DataError("is negative", file="a.tsv", value=count, remedy="count again")
        print(count * scale)

    module = types.ModuleType("made_up_stage")
    module.main = stage
    monkeypatch.setitem(sys.modules, "made_up_stage", module)
    monkeypatch.setitem(cli.COMMANDS, "sum", ("made_up_stage:main", "Add up."))
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments))


def test_help_lists_every_command_for_half_a_second_of_processor_time():
    command = [sys.executable, "-c", "from m2m.cli import app; app()", "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = result.stdout.split()
    assert all(name in printed for name in cli.COMMANDS)
    assert all(cli.COMMANDS[name][1] in result.stdout for name in cli.USER_COMMANDS)
    lines = result.stdout.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) < 80, "a screen of 80 x 24"
    # Not the wall clock: other tests run at the same time.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_help_imports_no_stage_and_no_heavy_library():
    code = (
        "import sys\nfrom m2m.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(result.stderr.split())
    assert "m2m.cli" in loaded
    assert not loaded & {"torch", "dipy", "nilearn", "nibabel", "numpy", "pandas", "matplotlib"}
    own = {name for name in loaded if name.startswith("m2m.")}
    assert own == {"m2m.cli", "m2m.io", "m2m.io.errors", "m2m.io.quoting"}


def test_version_is_printed_without_a_command(run):
    result = run("--version")
    assert (result.exit_code, result.output.strip()) == (0, m2m.__version__)


def test_the_exit_codes_in_the_code_are_those_that_are_documented(run):
    assert {0, 1, 2, SOME_FAILED, STOPPED} == cli.EXIT_CODES.keys()
    assert run("sum", "--no-such-option").exit_code == 2
    assert run("--version").exit_code == 0


def test_no_command_shows_the_help(run):
    assert "validate" in run().output


def test_every_command_is_for_users_or_in_one_phase():
    listed = [*cli.USER_COMMANDS, *chain.from_iterable(cli.PHASES.values())]
    assert sorted(listed) == sorted(cli.COMMANDS)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tran", ["translate", "translate-pairs"]),
        ("draw", ["draw-pairs", "draw-downstream", "draw-fields"]),
        ("--ver", []),
    ],
)
def test_the_shell_completes_commands_without_importing_them(typed, completed):
    code = (
        "import sys\nfrom m2m.cli import app\ntry: app(prog_name='m2m')\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    variables = {"_M2M_COMPLETE": "complete_bash", "COMP_WORDS": f"m2m {typed}", "COMP_CWORD": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | variables)
    assert result.stdout.split() == (completed or ["--version"])
    assert not set(result.stderr.split()) & {"numpy", "torch", "m2m.translate"}


def test_a_library_that_is_not_installed_is_named_with_its_extra(run, monkeypatch):
    def stage():
        raise ModuleNotFoundError("No module named 'fsl'", name="fsl.wrappers")

    monkeypatch.setattr(sys.modules["made_up_stage"], "main", stage)
    result = run("sum")
    assert result.exit_code == 1
    assert f"m2m sum: fsl is not installed; {m2m.how_to_install('workflow')}" in result.output
    monkeypatch.setitem(sys.modules, "made_up_stage", None)
    assert isinstance(run("sum").exception, ModuleNotFoundError), "no extra installs it"


def test_a_stage_receives_its_arguments(run):
    result = run("sum", "3", "--scale", "2")
    assert (result.exit_code, result.output.strip()) == (0, "6.0")


def test_a_stage_runs_once_for_each_participant_s_own_arguments(run):
    result = run("sum", "--scale", "2", "+", "1", "+", "4")
    assert result.exit_code == 0 and result.output.split() == ["2.0", "8.0"]
    failed = run("sum", "+", "1", "+", "--", "-1", "+", "4")
    assert failed.exit_code == 1 and failed.stdout.split() == ["1.0"]  # what comes after it is not run


def test_a_commands_help_names_the_command(run):
    result = run("sum", "--help")
    assert result.exit_code == 0
    assert "sum" in result.output.split("COUNT")[0]
    assert "--scale" in result.output


def test_bad_data_end_in_one_line_and_not_in_a_traceback(run):
    result = run("sum", "--", "-3")
    assert result.exit_code == 1
    assert "m2m sum: is negative (found -3) in a.tsv; count again" in result.output
    assert "Traceback" not in result.output


def test_a_missing_file_is_named_in_one_line(tmp_path):
    units = str(tmp_path / "nothing.tsv")
    outputs = "--table", str(tmp_path / "split.tsv"), "--record", str(tmp_path / "split.json")
    result = CliRunner().invoke(cli.app, ["split", "--units", units, *outputs])
    assert (result.exit_code, result.output) == (1, f"m2m split: there is no {units}\n")


def test_a_similar_command_is_suggested_for_a_misspelt_one(run):
    result = run("statsu")
    assert result.exit_code == 2
    assert "status" in result.output


def flags_of(name):
    """Every flag that a command knows, and its required flags."""
    command = typer.main.get_command(cli.app).get_command(None, name)
    options = [p for p in command.params if p.opts[0].startswith("--")]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    return known, {option.opts[0] for option in options if option.required}


def flags_in(text):
    """Every flag written in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def calls_in_the_rules():
    """(command, flags) of every rule that calls `m2m`, those from workflow functions included."""
    files = {path.stem: path.read_text() for path in sorted((ROOT / "rules").glob("*.smk"))}
    package = [path.read_text() for path in sorted((ROOT / "m2m/workflow").glob("*.py"))]
    parts = re.split(r"^ *def (\w+)", "".join([files["common"], *package]), flags=re.M)[1:]
    functions = {name: flags_in(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    for content in files.values():
        for text in re.split(r"^ *(?:use )?(?:rule|checkpoint)[ :]", content, flags=re.M)[1:]:
            _, *calls = re.split(r"\bm2m ([a-z-]+) (?=[-{])", text)
            params = dict(re.findall(r"^ +(\w+)=(.+)", text, flags=re.M))
            for name, arguments in zip(calls[::2], calls[1::2], strict=True):
                used = " ".join(params[key] for key in re.findall(r"\{params\.(\w+)", arguments))
                called = [functions[word] for word in re.findall(r"\w+", used) if word in functions]
                yield name, flags_in(arguments).union(flags_in(used), *called)


@pytest.mark.parametrize(("name", "flags"), list(calls_in_the_rules()))
def test_a_rule_passes_the_flags_that_its_command_knows(name, flags):
    known, required = flags_of(name)
    assert flags <= known
    assert required <= flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lower", "--help"], "lower is now called simulate-low-res"),
        (["translate", "T1.nii.gz", "--picture", "x.png"], "--picture is now called --figure"),
        (["translate", "T1.nii.gz", "--low=x.nii.gz"], "--low is now called --low-res"),
    ],
)
def test_an_old_name_on_the_command_line_is_refused_with_the_new_one(arguments, message):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_no_old_name_is_in_use():
    flags = set().union(*(flags_of(name)[0] for name in cli.COMMANDS))
    assert not set(cli.RENAMED) & (set(cli.COMMANDS) | flags)


def test_every_stage_has_its_rule():
    called, by_hand = {name for name, _ in calls_in_the_rules()}, set(cli.USER_COMMANDS)
    assert set(cli.COMMANDS) - by_hand <= called <= set(cli.COMMANDS)


def test_every_stage_with_a_version_is_a_command():
    assert set(VERSIONS) <= set(cli.COMMANDS)


def test_the_installed_program_runs():
    program = Path(sys.executable).with_name("m2m")
    result = subprocess.run([program, "--version"], capture_output=True, text=True, env=os.environ, check=True)
    assert result.stdout.strip() == m2m.__version__
