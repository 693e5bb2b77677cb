"""The command line: one command per stage, imported only when called."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from textwrap import fill
from types import SimpleNamespace
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

import m2m
from m2m.io.errors import DataError, Kept, StorageError

COMMANDS = {
    "init": ("m2m.cohort.initialise:main", "Write a study.yaml that fits a BIDS dataset."),
    "schema": ("m2m.options.config_schema:main", "Write a study.yaml's JSON schema, for editors."),
    "simulate": (
        "m2m.phantom.simulate:simulate",
        "Simulate one participant's raw scans and their ground truth.",
    ),
    "participants": ("m2m.phantom.simulate:participants", "Write the simulated dataset's tables."),
    "group-maps": (
        "m2m.phantom.group_maps:main",
        "Register a group's FA to MNI152; make maps of its bundles and their directions.",
    ),
    "describe": ("m2m.cohort.describe:main", "Write the BIDS description of the dataset of results."),
    "index": ("m2m.cohort.index:main", "List every scan of a BIDS dataset."),
    "validate": ("m2m.cohort.validate:main", "Check every scan; list the participants that take part."),
    "split": ("m2m.cohort.split:main", "Divide subjects into training, validation and test."),
    "folds": ("m2m.cohort.folds:main", "Divide subjects into folds for cross-fitting."),
    "collect": ("m2m.cohort.collect:main", "List the slices that models are trained on."),
    "quality": ("m2m.cohort.quality:main", "Collect the status and quality measures of all participants."),
    "doctor": ("m2m.cohort.doctor:main", "Check machine, configuration and dataset before the first run."),
    "status": ("m2m.cohort.status:main", "Print who is done, failed or excluded, and what is missing."),
    "join-series": ("m2m.diffusion.join_series:main", "Join diffusion series that differ by shell only."),
    "preprocess": (
        "m2m.diffusion.preprocess:main",
        "Correct a diffusion series with MRtrix3 or FSL.",
    ),
    "dti": ("m2m.diffusion.dti:main", "Mask a diffusion series and fit the tensor."),
    "tractography": ("m2m.diffusion.tractography:main", "Compute whole-brain streamlines."),
    "anat": (
        "m2m.structural.anat:main",
        "Resample a T1 to the common grid; find brain, white matter and template transform.",
    ),
    "deform": ("m2m.structural.deformation:main", "Deform the template to each T1 on the common grid."),
    "grid": (
        "m2m.structural.coregistration:main",
        "Register DWI to T1 and resample FA to the common grid.",
    ),
    "slices": ("m2m.structural.slices:main", "Cut normalised slices in three orientations."),
    "simulate-low-res": (
        "m2m.structural.low_res:main",
        "Simulate a low-resolution map, as from a fast scan.",
    ),
    "encoder": ("m2m.train.encoder:main", "Train the encoder of the perceptual loss."),
    "train": ("m2m.train:main", "Train a model on a task."),
    "measure-label-correction": (
        "m2m.train.label_correction:main",
        "Measure by how much a model's label correction shifts its labels.",
    ),
    "apply-label-correction": (
        "m2m.train.label_correction:correct",
        "Apply a label correction to the labels that models learn from.",
    ),
    "translate": ("m2m.translate:main", "Translate a T1, or a folder of them, with a model."),
    "synthesise": ("m2m.translate.subject:main", "Translate a participant's grid image."),
    "translate-pairs": (
        "m2m.translate.real_pairs:main",
        "Prepare real pairs of T1 and DWI; warp an atlas to each, and translate it.",
    ),
    "calibrate": ("m2m.translate.calibrate:main", "Fit a model's scale and deviation to real pairs."),
    "export": ("m2m.translate.export:main", "Pack a model: MONAI bundle, ONNX, small weights."),
    "models": ("m2m.models.catalogue:main", "Print the trained models, their training data and their accuracy."),
    "field": ("m2m.field:main", "Fit a continuous field to a participant's slices."),
    "sample": ("m2m.field.novel:main", "Write a field on any grid: volumes, oblique slices."),
    "render": ("m2m.field.render_views:main", "Render a field: turntable and still views."),
    "evaluate": ("m2m.evaluate:main", "Compare one model's volumes with the measured ones."),
    "compare": ("m2m.evaluate:compare", "Compare models on the same subjects."),
    "compare-visits": ("m2m.evaluate.visits:main", "Compare the visits of each participant."),
    "compare-pairs": ("m2m.evaluate.compare_pairs:main", "Compare maps of real pairs with the measured ones."),
    "compare-fields": ("m2m.evaluate.compare_fields:main", "Compare fields with interpolation."),
    "features": ("m2m.downstream.features:main", "Compute regional means and histograms of every participant's maps."),
    "predict-phenotype-cnn": ("m2m.downstream.phenotype_cnn:main", "Predict a phenotype from whole volumes."),
    "downstream": ("m2m.downstream:main", "Predict phenotypes from measured and synthetic maps."),
    "figures": ("m2m.figures.draw:main", "Draw the figures, each with its source data."),
    "draw-pairs": ("m2m.figures.pair_panels:main", "Draw real pairs: measured map, synthetic map, atlas."),
    "draw-downstream": ("m2m.figures.downstream_figures:main", "Draw the figures of the biological validation."),
    "draw-fields": ("m2m.figures.field_views:main", "Draw the views of fields as a figure."),
    "report-downstream": ("m2m.report.downstream_page:main", "Write the page of the biological validation."),
    "report-fields": ("m2m.report.field_page:main", "Write the page of continuous fields."),
    "tables": ("m2m.report.paper_tables:main", "Write a task's tables as Markdown and LaTeX."),
    "methods": ("m2m.report.methods:main", "Write the methods section of a report page, with references."),
    "report": ("m2m.report:main", "Write the self-contained HTML report."),
}
# Commands for users; the workflow calls all others.
USER_COMMANDS = ("init", "doctor", "schema", "translate", "sample", "status", "models", "export")


def phase(name: str) -> str:
    """Phase of a command: the subpackage that contains it."""
    return COMMANDS[name][0].partition(":")[0].split(".")[1]


PHASES = {
    group: tuple(name for name in COMMANDS if phase(name) == group and name not in USER_COMMANDS)
    for group in dict.fromkeys(phase(name) for name in COMMANDS if name not in USER_COMMANDS)
}
# Commands and options with new names, by the old ones.
RENAMED = {
    "cnn": "predict-phenotype-cnn",
    "correct-labels": "apply-label-correction",
    "labels": "measure-label-correction",
    "lower": "simulate-low-res",
    "--first": "--synthesis-weights",
    "--low": "--low-res",
    "--low-dir": "--low-res-dir",
    "--picture": "--figure",
}
# The extra of pyproject.toml that installs a library, by the library's import name.
EXTRAS = {
    "fsl": "workflow",
    "snakemake": "workflow",
    "lightning_fabric": "train",
    "monai": "train",
    "onnx": "train",
    "tensorboard": "train",
    "torch": "train",
    "pandas": "evaluate",
    "sklearn": "evaluate",
    "ipyniivue": "report",
    "jinja2": "report",
    "matplotlib": "report",
    "fire": "export",
}
# What a command ends with, for scripts that call it.
EXIT_CODES = {
    0: "done; with a status file (`--status`, and stages of the workflow), bad data end in that file and in 0, too",
    1: "refused or failed, with the reason on standard error: data, disk, a missing library, or an error of m2m",
    2: "the command line is wrong",
    3: "`m2m translate` of a folder: some T1s were translated and some were not",
    143: "`m2m train`: stopped by SIGTERM with its state saved; the same command goes on from there",
}


@contextmanager
def _one_line(ctx: typer.Context, name: str = "") -> Iterator[None]:
    """Report errors of data, disk or a missing library in one line, with exit code 1."""
    try:
        yield
    except (DataError, StorageError, FileNotFoundError, ModuleNotFoundError) as error:
        problem: object = error
        if isinstance(error, FileNotFoundError) and error.filename:
            problem = f"there is no {error.filename}"
        if isinstance(error, ModuleNotFoundError):
            library = (error.name or "").partition(".")[0]
            if library not in EXTRAS:
                raise
            problem = f"{library} is not installed; {m2m.how_to_install(EXTRAS[library])}"
        typer.echo(f"m2m {name or ctx.invoked_subcommand}: {problem}", err=True)
        raise typer.Exit(1) from error


class _Command(TyperCommand):
    """A command that names the new option where an old one is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for name in (text.partition("=")[0] for text in args):
            if name.startswith("--") and name in RENAMED:
                ctx.fail(f"{name} is now called {RENAMED[name]}")
        return super().parse_args(ctx, args)


def calls_in(arguments: Sequence[str]) -> list[list[str]]:
    """Divide a call for several participants at each ``+``: what stands before the first one is part of all calls."""
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "+":
            parts.append([])
        else:
            parts[-1].append(argument)
    shared, *own = parts
    return [shared + part for part in own] or [shared]


class _LazyGroup(TyperGroup):
    """Commands from a table, imported when called, so that help and small stages start fast."""

    # Contexts are typed Any: typer does not export the class that its own methods are typed with.

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Any:
        *calls, last = calls_in(sys.argv[1:] if args is None else args)
        for call in calls:
            try:
                super().main(call, *more, **settings)
            except SystemExit as end:
                if end.code:
                    raise
        return super().main(last, *more, **settings)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in COMMANDS:
            return None
        target, _ = COMMANDS[cmd_name]
        module, function = target.split(":")
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        with _one_line(ctx, cmd_name):
            command.command(cls=_Command)(getattr(importlib.import_module(module), function))
        return cast(TyperCommand, typer.main.get_command(command))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple:
        if args[0] in RENAMED:
            ctx.fail(f"{args[0]} is now called {RENAMED[args[0]]}")
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}; did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list:
        names = [
            SimpleNamespace(value=name, type="plain", help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        # Not TyperGroup's own method, which would import every stage.
        return names + super(TyperGroup, self).shell_complete(ctx, incomplete)

    def invoke(self, ctx: Any) -> object:
        with _one_line(ctx), suppress(Kept):
            return super().invoke(ctx)
        return None

    def format_help(self, ctx: Any, formatter: object) -> None:
        about = fill(m2m.__doc__ or "", 79)
        typer.echo(f"Usage: m2m COMMAND [OPTIONS or --help], m2m --version, m2m --install-completion\n{about}")
        for name in USER_COMMANDS:
            typer.echo(f"  {name:<12}{COMMANDS[name][1]}")
        typer.echo("Stages, which the workflow calls, by phase:")
        for group, names in PHASES.items():
            start = f"  {group:<12}"
            typer.echo(fill(" ".join(names), 79, initial_indent=start, subsequent_indent=" " * 14))


app = typer.Typer(cls=_LazyGroup, pretty_exceptions_enable=False, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(m2m.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Run one stage; `m2m STAGE SHARED + OWN + OWN` runs it for each participant's own options, in one process."""
