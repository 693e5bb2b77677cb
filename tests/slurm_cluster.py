"""A real Slurm on this machine, for tests: munge, slurmctld, slurmd, and slurmdbd where wanted.

Everything lives in a scratch folder but for links in /etc/slurm: jobs look for the configuration
there, since the plugin clears SLURM_CONF for them. A machine with a Slurm of its own is left alone.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ETC = Path("/etc/slurm")
DAEMONS = ("munged", "slurmctld", "slurmd")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
ADMIN_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

SLURM_CONF = """\
ClusterName=m2m
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=30  # a job of a node that failed starts again after as long
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={port1}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
SchedulerParameters=sched_interval=5,batch_sched_delay=0
MinJobAge=3600
KillWait={kill_wait}
DefMemPerCPU=500
SlurmdTimeout=15
{accounting}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2
PartitionName=short Nodes={host} Default=YES MaxTime=7-0
PartitionName=accel Nodes={host} MaxTime=7-0
"""

NO_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
"""

WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port2}
AccountingStoragePass={munge}
AccountingStorageEnforce=associations
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost=localhost
DbdPort={port2}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm_acct_db
"""


def missing(accounting: bool) -> list[str]:
    """Return what this machine lacks for a test cluster: programs, rights, a free /etc/slurm."""
    programs = DAEMONS + ACCOUNTING * accounting
    lacks = [name for name in programs if shutil.which(name, path=ADMIN_PATH) is None]
    if os.geteuid() != 0:
        lacks.append("root's rights")
    conf = ETC / "slurm.conf"
    if (conf.exists() or conf.is_symlink()) and not _left_behind(conf):
        lacks.append(f"a machine without a Slurm of its own ({conf})")
    return lacks


def _left_behind(conf: Path) -> bool:
    """Whether a configuration is the link of a test cluster that was killed: its folder may still be there."""
    if not conf.is_symlink():
        return False
    folder = conf.readlink().parent
    if folder.is_dir() and not (folder / "slurmctld.out").exists():
        return False
    try:
        return psutil.Process(int((folder / "slurmctld.pid").read_text())).name() != "slurmctld"
    except (OSError, ValueError, psutil.NoSuchProcess):
        return True


def _until(what: str, holds, seconds: float = 300) -> None:
    """Wait until a condition holds; TimeoutError with its name where it does not."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"Slurm's test cluster: {what} not within {seconds} s")
        time.sleep(0.1)


def _free_ports(n: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """One node with partitions `short` and `accel` and two devices that stand in for GPUs.

    Parameters
    ----------
    folder
        An empty folder below which all daemons keep their files.
    accounting
        With slurmdbd on MariaDB: `sacct` works, memory is enforced, jobs need the account `lab`.
    kill_wait
        Seconds between SIGTERM at a job's time limit and SIGKILL.
    """

    def __init__(self, folder: Path, accounting: bool = False, kill_wait: int = 30):
        self.folder, self.accounting = folder, accounting
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(3)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self.values = {
            "folder": folder,
            "host": host,
            "munge": folder / "munge.socket",
            "port": ports[0],
            "port1": ports[1],
            "port2": ports[2],
            "cpus": max(2, os.cpu_count()),
            "memory": memory_mb - 500,
            "kill_wait": kill_wait,
        }
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str, **options) -> None:
        """Start a daemon in the foreground, as a child: it ends with the test."""
        log = (self.folder / f"{name}.out").open("a")
        program = shutil.which(name, path=ADMIN_PATH)
        command = [program, *arguments]
        self.processes[name] = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )

    def stop(self, name: str) -> None:
        """End a daemon by its id."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _configure(self) -> None:
        """Write Slurm's files and link its configuration where jobs look for it."""
        accounting = WITH_ACCOUNTING if self.accounting else NO_ACCOUNTING
        text = SLURM_CONF.format(**self.values, accounting=accounting.format(**self.values))
        (self.folder / "slurm.conf").write_text(text)
        gres = f"NodeName={self.values['host']} Name=gpu File=/dev/zero,/dev/null\n"
        (self.folder / "gres.conf").write_text(gres)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        ETC.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(self.folder / name)

    def _start_database(self) -> None:
        """MariaDB on a socket of its own, then slurmdbd."""
        data, user = self.folder / "mysql", pwd.getpwuid(os.geteuid()).pw_name
        common = (f"--datadir={data}", f"--user={user}")
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", *common, "--auth-root-authentication-method=normal"],
            check=True,
            capture_output=True,
        )
        where = self.folder / "mysql.socket"
        self.start("mariadbd", "--no-defaults", *common, "--skip-networking", f"--socket={where}")
        _until("the database", where.exists)
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(SLURMDBD_CONF.format(**self.values))
        conf.chmod(0o600)
        (ETC / "slurmdbd.conf").unlink(missing_ok=True)
        (ETC / "slurmdbd.conf").symlink_to(conf)
        self.start("slurmdbd", "-D", env=os.environ | {"MYSQL_UNIX_PORT": str(where)})
        _until("slurmdbd", lambda: _answers("sacctmgr", "-n", "show", "user"))
        for what in ("cluster m2m", "account lab cluster=m2m", f"user {user} account=lab"):
            subprocess.run(["sacctmgr", "-i", "add", *what.split()], check=True, capture_output=True)

    def start_slurmd(self) -> None:
        """Start the node's daemon and wait until the node takes jobs."""
        self.start("slurmd", "-D")
        _until("an idle node", lambda: "idle" in _answers("sinfo", "-h", "-o", "%T"))

    def __enter__(self) -> "Cluster":
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        """Start every daemon in its order."""
        self.folder.chmod(0o711)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = self.values["munge"]
        self.start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={munge}",
            f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        _until("munge's socket", munge.exists)
        self._configure()
        if self.accounting:
            self._start_database()
        self.start("slurmctld", "-D")
        self.start_slurmd()

    def __exit__(self, *_) -> None:
        """Cancel what runs, end the daemons in the opposite order, take the links away."""
        if "slurmctld" in self.processes:
            subprocess.run(["scancel", "--me"], capture_output=True)
            with contextlib.suppress(TimeoutError):
                _until("an empty queue", lambda: not _answers("squeue", "-h"), 30)
        for name in reversed(list(self.processes)):
            self.stop(name)
        # Without cgroups Slurm loses sight of what a job's shell, once killed, leaves running.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CLUSTER_NAME") == "m2m":
                    process.kill()
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            link = ETC / name
            if link.is_symlink() and link.readlink().parent == self.folder:
                link.unlink()


def _answers(*command: str) -> str:
    """What a command prints, nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def stopped(cluster: Cluster, name: str) -> Iterator[None]:
    """Take a daemon down for a while."""
    cluster.stop(name)
    yield
    cluster.start_slurmd() if name == "slurmd" else cluster.start(name, "-D")
