"""The command line: one command per stage, imported only when called."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from textwrap import fill
from types import SimpleNamespace
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

import m2m
from m2m.io.errors import DataError, StorageError

COMMANDS = {
    "simulate": (
        "m2m.phantom.simulate:simulate", "Simulate one person's raw scans and their truth.",
    ),
    "participants": ("m2m.phantom.simulate:participants", "Write the simulated dataset's tables."),
    "describe": ("m2m.cohort.describe:main", "Say what the dataset of results is (BIDS)."),
    "index": ("m2m.cohort.index:main", "List every scan of a BIDS dataset."),
    "validate": ("m2m.cohort.validate:main", "Check scans by header and gradients; who is in."),
    "split": ("m2m.cohort.split:main", "Divide subjects into training, validation and test."),
    "folds": ("m2m.cohort.folds:main", "Divide subjects into folds for cross-fitting."),
    "collect": ("m2m.cohort.collect:main", "List the slices that models are fitted on."),
    "quality": ("m2m.cohort.quality:main", "Gather every subject's status and quality numbers."),
    "status": ("m2m.cohort.status:main", "Print who is done, failed, excluded; what is missing."),
    "preprocess": (
        "m2m.diffusion.preprocess:main", "Correct a diffusion series with MRtrix3 or FSL.",
    ),
    "dti": ("m2m.diffusion.dti:main", "Mask a diffusion series and fit the tensor."),
    "tractography": ("m2m.diffusion.tractography:main", "Draw whole-brain streamlines."),
    "anat": (
        "m2m.structural.anat:main", "Bring a T1 to the common grid; brain, white matter, template.",
    ),
    "grid": (
        "m2m.structural.coregistration:main", "Register DWI to T1 and bring FA to the common grid.",
    ),
    "slices": ("m2m.structural.slices:main", "Cut normalised slices in three orientations."),
    "lower": (
        "m2m.structural.lower:main", "Make a map at low resolution, as a fast scan gives it.",
    ),
    "encoder": ("m2m.train.encoder:main", "Train the encoder that images are compared in."),
    "train": ("m2m.train:main", "Train a model on a task."),
    "labels": ("m2m.train.labels:main", "Measure how far a model's labels were moved."),
    "correct-labels": ("m2m.train.labels:correct", "Move the labels that models learn from."),
    "translate": ("m2m.translate:main", "Translate a T1, or a folder of them, with a model."),
    "synthesise": ("m2m.translate.subject:main", "Translate a participant's grid image."),
    "export": ("m2m.translate.export:main", "Pack a model as a MONAI bundle, or write it as ONNX."),
    "models": ("m2m.models.catalogue:main", "Print which models are trained, on what, how good."),
    "field": ("m2m.field:main", "Fit a continuous field to a person's slices."),
    "sample": ("m2m.field.novel:main", "Write a field on any grid: volumes, oblique slices."),
    "render": ("m2m.field.render_views:main", "Render a field: turntable and still views."),
    "evaluate": ("m2m.evaluate:main", "Compare one model's volumes with the truth."),
    "compare": ("m2m.evaluate:compare", "Compare models on the same subjects."),
    "compare-fields": ("m2m.evaluate.compare_fields:main", "Compare fields with interpolation."),
    "features": ("m2m.downstream.features:main", "Describe everybody's maps by numbers."),
    "cnn": ("m2m.downstream.cnn:main", "Predict a phenotype from whole volumes."),
    "downstream": ("m2m.downstream:main", "Predict phenotypes from measured and synthetic maps."),
    "figures": ("m2m.figures.draw:main", "Draw the figures, each with its source data."),
    "draw-downstream": ("m2m.figures.downstream_figures:main", "Draw the biological validation."),
    "draw-fields": ("m2m.figures.field_views:main", "Draw the views of fields as a figure."),
    "report-downstream": ("m2m.report.downstream_page:main", "Write the page of the validation."),
    "report-fields": ("m2m.report.field_page:main", "Write the page of continuous fields."),
    "tables": ("m2m.report.paper_tables:main", "Write a task's tables as Markdown and LaTeX."),
    "methods": ("m2m.report.methods:main", "Write a study's methods in words, with references."),
    "report": ("m2m.report:main", "Write the self-contained HTML report."),
}  # fmt: skip
# What a person calls; all others are the workflow's.
BY_HAND = ("translate", "sample", "status", "models", "export")


def phase(name: str) -> str:
    """Phase of a command: the room of the package that it lies in."""
    return COMMANDS[name][0].partition(":")[0].split(".")[1]


PHASES = {
    room: tuple(name for name in COMMANDS if phase(name) == room and name not in BY_HAND)
    for room in dict.fromkeys(phase(name) for name in COMMANDS if name not in BY_HAND)
}
# The extra of pyproject.toml that installs a library, by the name it is imported by.
EXTRAS = {
    "fsl": "workflow", "snakemake": "workflow",
    "lightning_fabric": "train", "tensorboard": "train",
    "pandas": "evaluate", "sklearn": "evaluate",
    "ipyniivue": "report", "jinja2": "report", "matplotlib": "report",
    "fire": "export", "onnx": "export", "onnxruntime": "export",
}  # fmt: skip


@contextmanager
def _one_line(ctx: typer.Context, name: str = "") -> Iterator[None]:
    """End a command in one line and exit code 1 where data, disk or a library is at fault."""
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
            problem = f"{library} is not installed; pip install 'm2m[{EXTRAS[library]}]'"
        typer.echo(f"m2m {name or ctx.invoked_subcommand}: {problem}", err=True)
        raise typer.Exit(1) from error


class _LazyGroup(TyperGroup):
    """Commands by name from a table, so that help and a light stage start fast."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in COMMANDS:
            return None
        target, _ = COMMANDS[cmd_name]
        module, function = target.split(":")
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        with _one_line(ctx, cmd_name):
            command.command()(getattr(importlib.import_module(module), function))
        return typer.main.get_command(command)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple:
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}; did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list:
        names = [
            SimpleNamespace(value=name, type="plain", help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        # Not the group's own, which imports every stage.
        return names + super(TyperGroup, self).shell_complete(ctx, incomplete)

    def invoke(self, ctx: typer.Context) -> object:
        with _one_line(ctx):
            return super().invoke(ctx)

    def format_help(self, ctx: typer.Context, formatter: object) -> None:
        about = fill(m2m.__doc__, 79)
        typer.echo(f"Usage: m2m COMMAND [OPTIONS]\n{about}")
        for name in BY_HAND:
            typer.echo(f"  {name:<12}{COMMANDS[name][1]}")
        typer.echo("\nStages, which the workflow calls, by phase:")
        for room, names in PHASES.items():
            start = f"  {room:<12}"
            typer.echo(fill(" ".join(names), 79, initial_indent=start, subsequent_indent=" " * 14))
        typer.echo(
            "`m2m COMMAND --help` describes a command, `m2m --version` prints the version,"
            "\n`m2m --install-completion` lets the shell complete commands and options."
        )


app = typer.Typer(cls=_LazyGroup, pretty_exceptions_enable=False, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(m2m.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run one stage."""
