"""Programs that start at once: each call is forked from a process that has imported what it needs.

Most seconds of a small stage go to importing PyTorch, DIPY or Snakemake. `program` makes a program that hands its
arguments, folder, environment and open files to a server, which forks and runs the function that the installed
program runs. Each server has a hash seed of its own. The first call of each command starts the installed program. The
function is killed where its client is.

warm.py <name of a socket> <module:function> <argv[0]> <module or package> ...: the server, and what it is to import.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLIENT = """\
#!{python} -IS
import json, os, socket, sys
first = os.path.join({folder!r}, "first-" + (sys.argv[1] if len(sys.argv) > 1 else ""))
try:
    os.close(os.open(first, os.O_CREAT | os.O_EXCL))
except FileExistsError:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as call:
        call.connect("\\0" + {where!r})
        request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
        socket.send_fds(call, [request.encode()], [0, 1, 2])
        status = call.recv(1)
    sys.exit(status[0] if status else "the server of warm programs has ended")
os.execv({installed!r}, [{installed!r}, *sys.argv[1:]])
"""
LONGEST_REQUEST = 2**20
# Starts a thread when it is imported, which a forked process lacks and waits for: each process imports its own.
WITH_THREADS = "onnxruntime"
CHECKOUT = Path(__file__).resolve().parents[1]
M2M, SNAKEMAKE = (Path(sys.executable).with_name(name) for name in ("m2m", "snakemake"))


@contextlib.contextmanager
def program(folder: Path, installed: Path, entry: str, *imported: str) -> Iterator[Path]:
    """Serve a program for a while.

    Parameters
    ----------
    folder
        Does not exist yet; the program of the same name in it is yielded.
    installed
        The program.
    entry
        `module:function` that it runs.
    imported
        Modules, and packages with all their modules, that the server imports before the first call.
    """
    folder.mkdir(parents=True)
    where = f"m2m-{os.getpid()}-{os.urandom(8).hex()}"
    client = folder / installed.name
    values = {"python": sys.executable, "folder": str(folder), "where": where, "installed": str(installed)}
    client.write_text(CLIENT.format(**values))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, where, entry, str(installed), *imported],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout.readline() == "ready\n", "the server's error is on standard error"
        yield client
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def accept(listener: socket.socket) -> list:
    """Answer calls as long as standard input is open; return a call's request in the process that is to run it."""
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            os.killpg(0, signal.SIGKILL)
        call, _ = listener.accept()
        if os.fork() == 0:
            break
        call.close()
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, files, *_ = socket.recv_fds(call, LONGEST_REQUEST, 3)
    if child := os.fork():
        ended = os.pidfd_open(child)
        if ended not in select.select([call, ended], [], [])[0]:  # the client was killed
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            call.send(bytes([status if status >= 0 else 128 - status]))
        os._exit(0)
    call.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return json.loads(request)


def load(name: str) -> None:
    """Import a module, or a package and all modules below it, but those that need `WITH_THREADS`."""
    sys.modules[WITH_THREADS] = None
    names = pkgutil.walk_packages(getattr(importlib.import_module(name), "__path__", ()), f"{name}.")
    for found in (one.name for one in names):
        try:
            importlib.import_module(found)
        except ModuleNotFoundError as error:
            if error.name != WITH_THREADS:
                raise
    del sys.modules[WITH_THREADS]
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "a library starts threads when it is imported"


def main(where: str, entry: str, installed: str, *imported: str) -> None:
    """Import, then listen; only the process of a call gets beyond `accept`."""
    module, function = entry.split(":")
    for name in (module, *imported):
        load(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0" + where)  # a name in Linux's memory, not a file
    listener.listen(64)
    print("ready", flush=True)
    arguments, folder, environment = accept(listener)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [installed, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    main(*sys.argv[1:])
