"""Write a study.yaml that fits a BIDS dataset, each comment true of that dataset."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from m2m.cohort.split import PARTS
from m2m.cohort.study_lines import analysable, study_text
from m2m.cohort.survey import Survey, survey
from m2m.io.errors import DataError
from m2m.io.files import write_text
from m2m.io.overwriting import require_outside
from m2m.options import Config, problems
from m2m.options.config_schema import schema_text

# One participant each to train on, to choose models on and to test on.
FEWEST = len(PARTS)


def require_usable(found: Survey) -> None:
    """Raise DataError where a dataset has too few scans to train and test on, and nothing to predict from its T1w."""
    both = found.participants("paired")
    if both >= FEWEST or (found.without_dwi and analysable(found)):
        return
    why = "".join(f"; {n} x {reason}" for reason, n in found.reasons()[:FEWEST])
    if found.without_dwi:
        problem = "no usable DWI, so that nothing can be trained, and no phenotype of enough participants"
    else:
        problem = f"training and testing need {FEWEST} participants with a usable T1w and DWI"
    raise DataError(
        problem,
        file=found.root,
        value=found.counts + why,
        remedy="to translate these T1w by the weights that are installed with m2m: "
        f"m2m translate {shlex.quote(str(found.root))} --out FOLDER",
    )


def name_of(found: Survey) -> str:
    """Name of the study after that of the dataset: letters, digits and hyphens."""
    return re.sub("[^a-z0-9]+", "-", found.name.lower()).strip("-")[:30].strip("-") or "study"


def checked_text(found: Survey, dataset: str, schema: str) -> str:
    """The file's text, which the workflow accepts.

    Raises
    ------
    DataError
        A name or path is one that no configuration may have.
    """
    text = study_text(found, dataset, schema)
    try:
        Config.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        remedy = "rename the folder, or give the study another name by --dataset: letters, digits and hyphens"
        raise DataError("; ".join(problems(error)), file=found.root, value=dataset, remedy=remedy) from None
    return text


def commands(out: Path, target: str = "") -> list[str]:
    """The three calls of the workflow that follow, to a target, each with what it does."""
    name = shlex.quote(str(out if Path("Snakefile").is_file() else out.resolve()))
    call = f"snakemake --configfile {name} --cores all"
    steps = {"cohort": "check who takes part", f"{target} -n --quiet".strip(): "count the jobs", target: "run"}
    width = max(len(f"{call} {step}") for step in steps)
    return [f"  {f'{call} {step}':<{width}}  # {what}" for step, what in steps.items()]


def main(
    bids_dir: Annotated[Path, typer.Argument(help="Raw BIDS dataset, or QSIPrep/fMRIPrep derivatives.")],
    out: Annotated[Path, typer.Option(help="Configuration to write.")] = Path("study.yaml"),
    dataset: Annotated[
        str | None, typer.Option(help="Name of the study, and of its folder of results. Default: the dataset's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Processes that read headers.")] = 1,
) -> None:
    """Write a commented study.yaml that fits a BIDS dataset, with its JSON schema beside it.

    Scans are listed and checked by header and gradient table, as the workflow does before it reads
    voxels. Where there is no DWI, the study is `snakemake downstream` with the installed weights. The next commands
    are printed.
    """
    schema = out.with_suffix(".schema.json")
    for path in (out, schema):
        if path.exists() and not force:
            raise DataError("exists already", file=path, remedy="name another by --out, or overwrite it by --force")
    found = survey(bids_dir, threads)
    require_usable(found)
    name = dataset or name_of(found)
    if (results := Path(Config.model_fields["results"].default, name)).exists() and not force:
        remedy = "give the study another name by --dataset, or go on with these results by --force"
        raise DataError("results of a study of this name exist already", file=results, remedy=remedy)
    require_outside(results, bids_dir)
    write_text(out, checked_text(found, name, schema.name))
    write_text(schema, schema_text())
    print(f"{found.participants()} participants, {found.participants('paired')} with T1w and DWI.")
    print(f"Wrote {out} and {schema}. Read the comments, then, in the folder of the Snakefile:")
    print("\n".join(commands(out, "downstream" if found.without_dwi else "")))
