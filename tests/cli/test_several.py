"""The flags of several processes; tests/test_processes.py starts some."""

import subprocess

import jax
import pytest

from jaxvision.cli import processes
from jaxvision.cli.arguments import common_flags, parse
from jaxvision.cli.main import run
from jaxvision.core import InputError


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No test joins others, nor redirects the output of this process."""
    monkeypatch.setattr(processes, "_results_alone", lambda: None)
    monkeypatch.setattr(processes, "_watcher", None)


def flags_of(*arguments):
    values = common_flags()
    parse(values, ["train", *arguments], "")
    return values


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num_processes=2"],
        ["--process_id=1"],
        ["--coordinator_address=localhost:1234", "--num_processes=2"],
    ],
)
def test_several_processes_by_hand_need_all_their_flags(arguments):
    """Else each process would train the same run alone."""
    with pytest.raises(InputError, match=r"need all of --coordinator_address=HOST:PORT, --num_pr"):
        processes.join_processes(flags_of(*arguments))
    assert not processes.several()


BY_HAND = ["--coordinator_address=localhost:1234", "--num_processes=2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distributed"], "--distributed: coordinator_address should be defined"),
        ([*BY_HAND, "--process_id=2"], "--num_processes or --process_id: .*process_id=2, num_proc"),
    ],
)
def test_processes_that_cannot_join_are_an_error(arguments, message, monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    # As if no device had been used before, which JAX would refuse.
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    with pytest.raises(InputError, match=message):
        processes.join_processes(flags_of(*arguments))


def test_the_time_until_a_dead_process_is_noticed_is_an_option(monkeypatch, capfd):
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *who, **more: given.update(more))
    processes.join_processes(flags_of(*BY_HAND, "--process_id=1", "--heartbeat_timeout=17"))
    assert given["heartbeat_timeout_seconds"] == 17
    assert given["cluster_detection_method"] == "deactivate"  # else SLURM's choice of one GPU
    # It ends without a word: the watcher says what is known.
    processes._watcher.communicate(timeout=60)
    assert "because another process died" in (err := capfd.readouterr().err)
    assert "the others end within 17 s" in err
    with pytest.raises(InputError, match="heartbeat_timeout"):
        flags_of("--heartbeat_timeout=1")


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (jax.errors.JaxRuntimeError("Connection closed by peer"), "process died: Connection clo"),
        (KeyError("x"), "process 0 of 1 failed, as is printed above"),
    ],
)
def test_a_process_that_fails_says_so_and_does_not_wait_for_the_others(
    error, shown, monkeypatch, capfd
):
    def fail(argv):
        raise error

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(processes, "_watcher", started := watcher())
    monkeypatch.setitem(run.__globals__["COMMANDS"], "train", fail)
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(processes.os, "_exit", leave)
    with pytest.raises(Left, match="1"):
        run("train", ["train"])
    err = capfd.readouterr().err
    assert shown in err
    assert "goes on from its last checkpoint" in err
    assert ("Traceback" in err) == isinstance(error, KeyError)
    assert started.returncode == 0
    assert "ended before its work" not in err


@pytest.mark.parametrize("code", [0, 143])
def test_processes_that_end_together_wait_for_each_other(code, monkeypatch, capfd):
    monkeypatch.setattr(processes, "_watcher", started := watcher())
    monkeypatch.setitem(run.__globals__["COMMANDS"], "train", lambda argv: code)
    assert run("train", ["train"]) == code
    assert started.returncode == 0
    assert not capfd.readouterr().err


def watcher():
    """Such a process as `join_processes` starts."""
    command = ["sh", "-c", processes._WATCH, "sh", "ended before its work was done"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
