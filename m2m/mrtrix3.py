"""MRtrix3's commands as typed functions: a list of arguments, never a shell's string.

Each function runs one command and returns its `Call`: what ran, its version, log and exit
status. A command that is not installed or fails raises `ProgramError`.

References
----------
Tournier et al. (2019), NeuroImage 202:116137, https://doi.org/10.1016/j.neuroimage.2019.116137
"""

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROGRESS = re.compile(r"\[ *\d+%\]")


class ProgramError(RuntimeError):
    """An external program is not installed, or ended with an error."""


@dataclass(frozen=True)
class Call:
    """One finished command."""

    arguments: tuple[str, ...]
    version: str
    log: str
    exit_status: int


def run(*arguments: str | Path | float) -> Call:
    """Run one MRtrix3 command to its end.

    Parameters
    ----------
    *arguments : str, path or float
        The command and its arguments, each passed on as it is.

    Raises
    ------
    ProgramError
        The command is not on PATH, or its exit status is not 0; the message has the last line
        of its standard error and its log.
    """
    command = tuple(str(argument) for argument in arguments)
    if shutil.which(command[0]) is None:
        raise ProgramError(f"{command[0]} is not on PATH; install MRtrix3, which it belongs to")
    status, log = _finished(command)
    print(" ".join(command), log, sep="\n", flush=True)
    if status != 0:
        lines = log.strip().splitlines() or ["(no message)"]
        raise ProgramError(
            f"{command[0]} ended with exit status {status}: {lines[-1]}\n"
            f"command: {list(command)}\nlog:\n{log}"
        )
    return Call(command, version(), log, status)


@functools.cache
def version() -> str:
    """Version of the installed MRtrix3, e.g. ``3.0.3``; ``unknown`` where it does not say."""
    # Asked of a compiled command: the scripts among them do not know their version.
    if shutil.which("mrconvert") is None:
        return "unknown"
    words = _finished(("mrconvert", "-version"))[1].split()
    return words[2] if len(words) > 2 else "unknown"


def _finished(command: tuple[str, ...]) -> tuple[int, str]:
    """Exit status and log of a command, standard error last, without progress bars."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line for line in lines if not PROGRESS.search(line))


def _option(name: str, *values: str | Path | float | None) -> list[str | Path | float]:
    """``-name value…``, or nothing where a value is None."""
    return [] if None in values else [f"-{name}", *values]


def mrconvert(
    image: Path,
    out: Path,
    *,
    fslgrad: tuple[Path, Path] | None = None,
    export_fslgrad: tuple[Path, Path] | None = None,
    threads: int | None = None,
) -> Call:
    """Convert an image; gradients go in from, or out to, FSL's (bvec, bval) files."""
    return run(
        "mrconvert",
        image,
        out,
        *_option("fslgrad", *(fslgrad or [None])),
        *_option("export_grad_fsl", *(export_fslgrad or [None])),
        *_option("nthreads", threads),
    )


def dwidenoise(dwi: Path, out: Path, *, threads: int | None = None) -> Call:
    """Denoise by Marchenko-Pastur PCA; the first step, before any interpolation.

    References
    ----------
    Veraart et al. (2016), NeuroImage 142:394, https://doi.org/10.1016/j.neuroimage.2016.08.016
    """
    return run(
        "dwidenoise",
        dwi,
        out,
        *_option("nthreads", threads),
    )


def mrdegibbs(image: Path, out: Path, *, threads: int | None = None) -> Call:
    """Remove Gibbs ringing by local subvoxel shifts, within the slices (axes 0 and 1).

    References
    ----------
    Kellner et al. (2016), MRM 76:1574, https://doi.org/10.1002/mrm.26054
    """
    return run("mrdegibbs", image, out, *_option("nthreads", threads))


def dwifslpreproc(
    dwi: Path,
    out: Path,
    *,
    phase_encoding: str,
    readout_s: float,
    slm: Literal["none", "linear"],
    scratch: Path,
    threads: int | None = None,
) -> Call:
    """Correct eddy currents and motion with FSL's eddy; one phase-encoding direction.

    Parameters
    ----------
    phase_encoding : str
        ``AP``, ``LR``…: from where to where.
    readout_s : float
        Total readout time.
    slm : str
        eddy's model of the shape of the fields over directions.
    scratch : path
        Folder for its intermediate files; must not exist.
    """
    return run(
        "dwifslpreproc",
        dwi,
        out,
        "-rpe_none",
        "-pe_dir",
        phase_encoding,
        *_option("readout_time", readout_s),
        # The leading space keeps MRtrix3 from reading the value as an option of its own.
        *_option("eddy_options", f" --slm={slm}"),
        *_option("scratch", scratch),
        *_option("nthreads", threads),
    )


def dwibiascorrect(
    dwi: Path,
    out: Path,
    *,
    algorithm: Literal["ants", "fsl"],
    scratch: Path,
    threads: int | None = None,
) -> Call:
    """Divide by the smooth receive field that ANTs' N4 or FSL's fast finds in the b = 0 image."""
    return run(
        "dwibiascorrect",
        algorithm,
        dwi,
        out,
        *_option("scratch", scratch),
        *_option("nthreads", threads),
    )


def dwi2tensor(
    dwi: Path,
    out: Path,
    *,
    ols: bool = False,
    iterations: int = 2,
    fslgrad: tuple[Path, Path] | None = None,
    mask: Path | None = None,
    threads: int | None = None,
) -> Call:
    """Fit tensors: volumes D11 D22 D33 D12 D13 D23 in scanner axes, mm2/s.

    Parameters
    ----------
    ols : bool
        First step without weights; otherwise weighted by the squared signal.
    iterations : int
        Steps after it, weighted by the squared prediction of the step before.

    References
    ----------
    Veraart et al. (2013), NeuroImage 81:335, https://doi.org/10.1016/j.neuroimage.2013.05.028
    """
    return run(
        "dwi2tensor",
        dwi,
        out,
        *(["-ols"] if ols else []),
        *_option("iter", iterations),
        *_option("fslgrad", *(fslgrad or [None])),
        *_option("mask", mask),
        *_option("nthreads", threads),
    )


def tensor2metric(
    tensor: Path,
    *,
    fa: Path | None = None,
    adc: Path | None = None,
    ad: Path | None = None,
    rd: Path | None = None,
    vector: Path | None = None,
    threads: int | None = None,
) -> Call:
    """Compute maps of a tensor image; `vector` is the first eigenvector, of unit length."""
    return run(
        "tensor2metric",
        tensor,
        *_option("fa", fa),
        *_option("adc", adc),
        *_option("ad", ad),
        *_option("rd", rd),
        *(["-modulate", "none", *_option("vector", vector)] if vector else []),
        *_option("nthreads", threads),
    )
