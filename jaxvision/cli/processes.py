"""Several processes that compute together: joining them, and ending when one of them dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback

import jax
from absl import flags

from jaxvision.core import InputError, reason_of

HEARTBEAT_TIMEOUT = 60
"""Seconds after which a process that does not answer is dead; JAX's own default is 100."""

_LONGEST_START = 300
"""Seconds that a process waits at its start for the others."""

_LONGEST_REPORT = 3600
"""Seconds that processes wait at their end for the first one, which writes tables and pictures."""

_WATCH = 'trap "" INT TERM; read -r done || printf "%s\\n" "$1" >&2'
"""Program of a shell: prints its argument, unless it reads a line before its input ends."""

_AGAIN = (
    "start all again by the same command, with this number of processes or another: a training "
    "goes on from its last checkpoint"
)

_watcher: subprocess.Popen | None = None


def define_processes(values: flags.FlagValues) -> None:
    """Defines the flags of several processes."""
    flags.DEFINE_boolean(
        "distributed",
        False,
        "several processes, found from the cluster's environment (TPU pods, SLURM, ...)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "several processes by hand: host:port of the first one",
        flag_values=values,
    )
    flags.DEFINE_integer("num_processes", None, "with it: how many", flag_values=values)
    flags.DEFINE_integer("process_id", None, "with it: which one this is", flag_values=values)
    flags.DEFINE_integer(
        "heartbeat_timeout",
        HEARTBEAT_TIMEOUT,
        "several processes: seconds after which one that died ends the others",
        lower_bound=5,
        flag_values=values,
    )


def join_processes(values: flags.FlagValues) -> None:
    """Starts JAX's distributed service if the flags ask for it.

    From then on this process ends when another one dies, at the latest after the seconds of
    --heartbeat_timeout. It ends with a message, also where JAX aborts it.

    Raises:
      InputError: only some of the three flags of several processes by hand, or numbers that do not
        fit; no cluster is found.
    """
    by_hand = (values.coordinator_address, values.num_processes, values.process_id)
    if not values.distributed and 0 < by_hand.count(None) < len(by_hand):
        raise InputError(
            "several processes by hand need all of --coordinator_address=HOST:PORT, "
            "--num_processes and --process_id"
        )
    if not (values.coordinator_address or values.distributed):
        return
    _results_alone()
    _watch(values.heartbeat_timeout)
    try:
        jax.distributed.initialize(
            *(by_hand if values.coordinator_address else ()),
            # By hand, each process has all devices that it sees, within a cluster's job too.
            cluster_detection_method="deactivate" if values.coordinator_address else None,
            initialization_timeout=_LONGEST_START,
            heartbeat_timeout_seconds=values.heartbeat_timeout,
            shutdown_timeout_seconds=_LONGEST_REPORT,
        )
    except (ValueError, TypeError) as error:
        advice = "give --coordinator_address, --num_processes and --process_id"
        wrong = "--num_processes or --process_id" if values.coordinator_address else "--distributed"
        raise InputError(f"{wrong}: {reason_of(error)}: {advice}") from error


def _results_alone() -> None:
    """Keeps stdout for the result: the collectives of CPU devices talk on file descriptor 1."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def several() -> bool:
    """Whether this process computes together with others."""
    return _watcher is not None


def explain(error: Exception) -> None:
    """Prints an error in the computation of one of several processes, or in the program."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        said = f"failed, perhaps because another process died: {reason_of(error)}"
    else:
        traceback.print_exception(error)
        said = "failed, as is printed above"
    print(f"error: {_this()} {said}; {_AGAIN}", file=sys.stderr)


def leave(code: int) -> None:
    """Ends this process at once, if it is one of several and failed.

    At its end JAX waits for the other processes, which would wait for this one. They end when it
    no longer answers.

    Args:
      code: the exit code. With 0 and that of SIGTERM all processes end together.
    """
    if not several():
        return
    _dismiss()
    if code in (0, 128 + signal.SIGTERM):
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    if jax.process_index() == 0:
        time.sleep(2)  # the others end with this one: those that failed too say why before
    os._exit(code)


def _this() -> str:
    return f"process {jax.process_index()} of {jax.process_count()}"


def _watch(heartbeat_timeout: int) -> None:
    """Has a message printed if this process ends without `leave`.

    Where another process died, JAX ends this one by abort() in a thread of its own, and nothing in
    this process can print any more. A shell does it, whose input ends with this process.
    """
    global _watcher
    message = (
        "error: this process ended before its work was done: it was killed, or JAX ended it "
        f"because another process died, or did not start within {_LONGEST_START} s; the others end "
        f"within {heartbeat_timeout} s; {_AGAIN}"
    )
    _watcher = subprocess.Popen(
        ["sh", "-c", _WATCH, "sh", message],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _dismiss() -> None:
    """Lets the shell of `_watch` end without a message."""
    assert _watcher is not None
    with contextlib.suppress(OSError):  # it was killed
        _watcher.communicate(b"done\n")
