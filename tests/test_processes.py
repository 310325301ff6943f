"""Runs as a user sees them: processes that are killed, asked to stop, or several at once."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvision.cli.main import run
from jaxvision.engine import loop
from tests import joined
from tests.data.folders import write_instances, write_voc
from tests.marks import long_but

CONFIG = pathlib.Path(__file__).parent / "tiny_config.py"
DETECTOR = pathlib.Path(__file__).parent / "tiny_detector.py"
TWO_STAGE = pathlib.Path(__file__).parent / "tiny_two_stage.py"
TIMEOUT = 300


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def start(data_dir):
    """Starts `jaxvision train`; ends what is left over after the test."""
    processes = []

    def start(workdir, *arguments, config=CONFIG, devices=1, process=None, port=None):
        command = [
            sys.executable, "-m", "jaxvision", "train", f"--config={config}",
            f"--workdir={workdir}", f"--config.data.dir={data_dir}", *arguments,
        ]  # fmt: skip
        if process is not None:
            command += [
                f"--coordinator_address=localhost:{port}",
                "--num_processes=2",
                f"--process_id={process}",
            ]
        started = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
        )
        processes.append(started)
        return started

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(process, code=0):
    """(the JSON line or None, stderr) of a process that must end with an exit code."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, err
    lines = out.splitlines()
    assert len(lines) <= 1, "stdout is for the result"
    return (json.loads(lines[0]) if lines else None), err


def lines_of(workdir):
    """The lines of the metrics, without how long the run waited for data."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [re.sub(r', "data_wait": [^,}]*', "", line) for line in lines]


def wait_for_step(processes, workdir, step):
    """Waits until the metrics of a step are written."""
    deadline = time.monotonic() + TIMEOUT
    while len(lines_of(workdir)) < step:
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start_two(start, workdir, *arguments, **options):
    options |= {"devices": 2, "port": free_port()}
    return [start(workdir, *arguments, process=i, **options) for i in range(2)]


def result_of_two(start, workdir, *arguments, **options):
    """The result that two processes train to, of which the first one reports."""
    both = start_two(start, workdir, *arguments, **options)
    (first, _), (second, err) = [finish(process) for process in both]
    assert second is None, "only the first process reports"
    assert "images/s" not in err
    return first


@pytest.fixture(scope="module")
def reference_of_two(tmp_path_factory):
    return {"workdir": tmp_path_factory.mktemp("reference_of_two")}


@pytest.fixture
def undisturbed_two(reference_of_two, start):
    """The result and the folder of a run of two processes with two devices each, by pmap."""
    if "result" not in reference_of_two:
        reference_of_two["result"] = result_of_two(start, reference_of_two["workdir"])
    return reference_of_two


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return {"workdir": tmp_path_factory.mktemp("reference")}


@pytest.fixture
def uninterrupted(reference, start):
    """The result and the metrics of a run on one device that nobody disturbs."""
    if "result" not in reference:
        reference["result"], reference["stderr"] = finish(start(reference["workdir"]))
        reference["lines"] = lines_of(reference["workdir"])
    return reference


@pytest.mark.slow
def test_a_run_prints_plain_lines_and_one_json_line(uninterrupted):
    digests = {"state_digest", "variables_digest"}
    assert uninterrupted["result"].keys() == {
        "split",
        "accuracy",
        "top5_accuracy",
        "ece",
        "steps",
        *digests,
    }
    assert uninterrupted["result"]["steps"] == 60
    assert uninterrupted["result"]["split"] == "test"
    assert {len(uninterrupted["result"][name]) for name in digests} == {64}
    shown = [line for line in uninterrupted["stderr"].splitlines() if "images/s" in line]
    assert len(shown) == 6
    assert "\r" not in uninterrupted["stderr"]


@pytest.mark.parametrize("times", long_but([1, 5], (), [1]))
def test_killed_and_asked_to_stop_it_ends_with_the_same_bits(uninterrupted, start, tmp_path, times):
    rng = random.SystemRandom()
    steps = sorted(rng.sample(range(1, 29), times))
    for step in steps:
        process = start(tmp_path)
        wait_for_step([process], tmp_path, step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"not killed at step {step}"

    # SIGTERM saves, says so and exits with 143.
    process = start(tmp_path)
    wait_for_step([process], tmp_path, 39)
    process.terminate()
    result, err = finish(process, 128 + signal.SIGTERM)
    assert result is None
    saved = len(lines_of(tmp_path))
    assert 39 <= saved < 60
    assert f"asked to stop: saved after step {saved} in {tmp_path}" in err
    assert (tmp_path / "checkpoints" / str(saved)).is_dir()

    result, err = finish(start(tmp_path))
    assert f"resuming the run in {tmp_path} after step {saved}" in err
    assert result == uninterrupted["result"], f"killed at steps {steps}"
    assert lines_of(tmp_path) == uninterrupted["lines"], f"killed at steps {steps}"


def wait_until_it_listens(process):
    """Waits for the handlers of signals, which come before the imports."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc, where Linux says which signals a process handles")
    mask = 1 << (signal.SIGTERM - 1)
    while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & mask:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_before_training_ends_the_process_at_once(start, tmp_path, name):
    number = signal.Signals[name]
    process = start(tmp_path / "run")
    wait_until_it_listens(process)
    time.sleep(0.5)  # it imports libraries
    process.send_signal(number)
    begun = time.monotonic()
    _, err = finish(process, 128 + number)
    assert time.monotonic() - begun < 2
    assert re.fullmatch(r"(interrupted|asked to stop): the same command resumes .*\n", err)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_for_the_worker_processes_too_saves(start, tmp_path):
    alone = "--config.data.validation_fraction=0.0"  # workers for it take seconds to start
    process = start(tmp_path, "--config.data.workers=1", alone)
    wait_for_step([process], tmp_path, 5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = finish(process, 128 + signal.SIGINT)
    assert "stopping after this step" in err
    assert "config.best" not in err, "which nobody set"
    assert (tmp_path / "checkpoints" / str(len(lines_of(tmp_path)))).is_dir()


def result_of(capsys, *arguments):
    """The result of a command in this process, which has four devices."""
    capsys.readouterr()
    assert run(arguments[0], list(map(str, arguments))) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def losses_of(workdir):
    return np.array([json.loads(line)["loss"] for line in lines_of(workdir)])


PARTS = [
    "--config.freeze=('conv1',)",
    "--config.head_warmup.steps=5",
    "--config.head_warmup.only=('fc',)",
    "--config.optimizer.ema_decay=0.9",
    "--config.augment.mixup=0.5",
]


# A sum over the devices fails, or JAX aborts the process because the other one does not answer.
DIED = r"^error: .* because another process died.* a training goes on from its last checkpoint$"


@pytest.mark.slow
def test_two_processes_of_two_devices_compute_what_one_of_four_does(tmp_path, monkeypatch):
    """In both ways of mapping; each process reads its part; it ends if the other is killed."""
    monkeypatch.setattr(loop, "draw_curves", lambda *_: None)
    port = free_port()
    both = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.joined", tmp_path / "two"),
                *(f"--coordinator_address=localhost:{port}", "--num_processes=2"),
                *(f"--process_id={index}", "--heartbeat_timeout=10"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(__file__).parent.parent,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        )
        for index in range(2)
    ]
    expected = {kind: joined.computed(tmp_path / "one", kind) for kind in joined.KINDS}
    (_, err), (_, other) = [process.communicate(timeout=TIMEOUT) for process in both]
    assert both[0].returncode == -signal.SIGKILL, err
    assert both[1].returncode
    assert re.search(DIED, other, re.MULTILINE), other
    one, two = [json.loads((tmp_path / "two" / f"{index}.json").read_text()) for index in range(2)]
    for kind in joined.KINDS:
        assert one[kind]["state"] == two[kind]["state"]
        assert one[kind]["best"] == two[kind]["best"] == expected[kind]["best"]
        assert one[kind]["metrics"] == two[kind]["metrics"]
        assert one[kind]["metrics"] == pytest.approx(expected[kind]["metrics"], rel=1e-5)
        losses = losses_of(tmp_path / "two" / kind)
        assert len(losses) == joined.STEPS
        np.testing.assert_allclose(losses, losses_of(tmp_path / "one" / kind), rtol=1e-5)
        # In an epoch each process reads its half of each batch; together every record once.
        assert len(one[kind]["trained on"]) == len(two[kind]["trained on"])
        read = [*one[kind]["trained on"], *two[kind]["trained on"]]
        assert sorted(read) == sorted(expected[kind]["trained on"]) == [*range(joined.TRAINED)]
        # The last batch is filled up by what is made of its first record.
        parts = [{*x[kind]["measured on"]} for x in (one, two)]
        assert parts[0] | parts[1] == {*range(joined.MEASURED)}
        assert len(parts[0] & parts[1]) <= 1
        share = one[kind]["local share"]
        assert share == two[kind]["local share"] == expected[kind]["local share"]
        assert (share < 0.5) == (kind == "shard_state")
    # Where the state lies changes nothing.
    assert one["shard_state"]["metrics"] == pytest.approx(one["shard_map"]["metrics"], rel=1e-5)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_and_the_run_goes_on(
    start, data_dir, undisturbed_two, tmp_path, capsys
):
    """Started again, two processes end with the same bits, and one with the same losses."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    first, second = start_two(start, run, "--heartbeat_timeout=10")
    wait_for_step([first, second], run, 9)
    second.kill()
    second.communicate()
    _, err = first.communicate(timeout=90)  # JAX's own timeout is 100 s
    assert first.returncode
    assert re.search(DIED, err, re.MULTILINE), err
    assert 9 <= len(lines_of(run)) < 60
    shutil.copytree(run, alone)

    (result, err), _ = [finish(process) for process in start_two(start, run)]
    assert int(re.search(r"resuming the run .* after step (\d+)", err)[1]) >= 7
    assert result == undisturbed_two["result"]
    assert lines_of(run) == lines_of(undisturbed_two["workdir"])

    usual = ["train", f"--config={CONFIG}", f"--config.data.dir={data_dir}"]
    other = "--config.parallel=shard_map"
    result, err = result_of(capsys, *usual, f"--workdir={alone}", other)
    assert "resuming the run" in err
    assert result["steps"] == len(lines_of(alone)) == 60
    np.testing.assert_allclose(losses_of(alone)[:20], losses_of(run)[:20], rtol=1e-5)


@pytest.mark.parametrize("kind", long_but(["pmap", "shard_map"], (), ["pmap"]))
def test_two_processes_train_the_same_losses_as_one(
    start, data_dir, undisturbed_two, tmp_path, kind, capsys
):
    options = [f"--config.parallel={kind}", *(PARTS if kind == "shard_map" else [])]
    usual = ["train", f"--config={CONFIG}", f"--config.data.dir={data_dir}", *options]
    result_of(capsys, *usual, f"--workdir={tmp_path / 'one'}")
    if kind == "pmap":
        workdir, first = undisturbed_two["workdir"], undisturbed_two["result"]
    else:
        workdir = tmp_path / "two"
        first = result_of_two(start, workdir, *options)
    one, two = losses_of(tmp_path / "one"), losses_of(workdir)
    assert len(one) == len(two) == 60
    np.testing.assert_allclose(two[:5], one[:5], rtol=1e-5)
    np.testing.assert_allclose(two[:20], one[:20], rtol=1e-3)
    assert first["steps"] == 60
    # What two processes measured together is what one measures of the same checkpoint.
    alone, _ = result_of(capsys, "eval", f"--workdir={workdir}")
    assert alone["accuracy"] == first["accuracy"]


@pytest.mark.slow
def test_a_two_stage_detector_on_two_processes_and_resumed(start, tmp_path, capsys):
    """The same losses, with masks and random samples; the same bits after it was killed."""
    data = write_instances(tmp_path / "data")
    usual = ["train", f"--config={TWO_STAGE}", f"--config.data.dir={data}"]
    one, _ = result_of(capsys, *usual, f"--workdir={tmp_path / 'one'}")
    options = {"config": TWO_STAGE}
    both = start_two(start, tmp_path / "two", f"--config.data.dir={data}", **options)
    (two, _), _ = [finish(process) for process in both]
    losses = losses_of(tmp_path / "one")
    assert len(losses) == one["steps"] == two["steps"] == 30
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses_of(tmp_path / "two"), losses, rtol=1e-4)

    killed = start(tmp_path / "killed", f"--config.data.dir={data}", devices=4, **options)
    wait_for_step([killed], tmp_path / "killed", 5)
    killed.kill()
    killed.communicate()
    resumed, err = result_of(capsys, *usual, f"--workdir={tmp_path / 'killed'}")
    assert 2 <= int(re.search(r"resuming the run .* after step (\d+)", err)[1]) < 30
    assert resumed == one
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "one")


BUCKETS = [
    "--config.data.resize=fit",
    "--config.data.shapes=buckets",
    "--config.data.multiple_of=4",
    "--config.data.image_size=32",
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "inputs"), [("pmap", []), ("shard_map", []), ("pmap", BUCKETS)])
def test_two_processes_gather_what_a_detector_found(start, tmp_path, kind, inputs, capsys):
    data = write_voc(tmp_path / "data")
    options = [f"--config.data.dir={data}", f"--config.parallel={kind}", *inputs]
    both = start_two(start, tmp_path / "run", *options, config=DETECTOR)
    (result, err), (second, quiet) = [finish(process) for process in both]
    assert second is None, "only the first process reports"
    rows = [line.split()[:2] for line in err.splitlines() if line.startswith(("cat ", "dog "))]
    assert rows == [["cat", "2"], ["dog", "1"]], "objects of all images, each once"
    assert "objects" not in quiet
    shapes = set(re.findall(r"compiled the evaluation for images of (\d+ x \d+)", err))
    assert len(shapes) == (2 if inputs else 1)
    # The three images, on four devices of two processes, with a filler: as in one process.
    alone, _ = result_of(capsys, "eval", f"--workdir={tmp_path / 'run'}")
    assert alone.keys() == result.keys() - {"state_digest"}
    assert alone["variables_digest"] == result["variables_digest"]
    for name in ("AP", "AP50", "AR100", "mAP_VOC"):
        assert alone[name] == pytest.approx(result[name], abs=1e-6), name


@pytest.mark.long
@pytest.mark.parametrize("signalled", ["first", "second", "both"])
def test_sigterm_stops_two_processes_after_the_same_step(
    start, data_dir, tmp_path, signalled, capsys
):
    both = start_two(start, tmp_path)
    wait_for_step(both, tmp_path, 9)
    for name, process in zip(("first", "second"), both, strict=True):
        if signalled in (name, "both"):
            process.terminate()
    (result, err), (other, _) = [finish(process, 128 + signal.SIGTERM) for process in both]
    assert result is None
    assert other is None
    saved = len(lines_of(tmp_path))
    assert 9 <= saved < 60
    assert f"asked to stop: saved after step {saved}" in err

    # And it goes on in one process with four devices.
    usual = ["train", f"--config={CONFIG}", f"--config.data.dir={data_dir}"]
    result, err = result_of(capsys, *usual, f"--workdir={tmp_path}")
    assert f"after step {saved}" in err
    assert result["steps"] == 60
    assert len(lines_of(tmp_path)) == 60
