"""Nothing that a run folder names is imported or executed, unless its file is trusted."""

import json
import pathlib
import shutil
import sys

import numpy as np
import pytest

import jaxvision
from jaxvision.cli.code import Code
from jaxvision.core import InputError
from tests.cli.conftest import result_of
from tests.marks import long_but

EVIL = "import pathlib\npathlib.Path({marker!r}).touch()\n\ndef f(*args, **kwargs):\n    pass\n"
NAMES = ("evil/evil.py:f", "{folder}/evil/evil.py:f", "evil_package.module:f")
KEYS = (
    ("colors", "loss.name"),
    ("colors", "model.name"),
    ("colors", "model.norm"),
    ("colors", "data.source"),
    ("colors", "data.name"),
    ("colors", "task"),
    ("detection", "loss.name"),
    ("detection", "detector.name"),
    ("detection", "model.name"),
    ("detection", "model.backbone"),
    ("detection", "model.backbone.name"),
    ("detection", "augment.mosaic"),
)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """The file that evil code writes when it is imported; the code is in reach."""
    marker = tmp_path / "marker"
    for part in ("evil/evil.py", "evil_package/__init__.py", "evil_package/module.py"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text(EVIL.format(marker=str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield marker
    for name in ("evil_package", "evil_package.module"):
        sys.modules.pop(name, None)


def evil_run(trained, kind, key, name):
    """A copy of a run whose run.json names evil code, as command line and Python would."""
    shutil.copytree(trained(kind).folder, "run")
    file = pathlib.Path("run/run.json")
    run = json.loads(file.read_text())
    group, (*path, last) = run["config"], key.split(".")
    for part in path:
        group = group[part]
    group[last] = name
    if key == "data.name":
        run["config"]["data"]["source"] = "tfds"
    file.write_text(json.dumps(run))


@pytest.mark.parametrize("name", NAMES)
def test_the_evil_code_would_be_found(marker, name):
    """Else the tests below would prove nothing."""
    Code().find({}, name.format(folder=marker.parent), "loss")
    assert marker.exists()


# Every key with a form of the name, and a key with all forms. With another loss a run is evaluated,
# which takes longer.
CASES = [(*where, name) for where in KEYS for name in NAMES]
QUICK = [case for number, case in enumerate(CASES) if number % 4 == 0 or case[1] == "model.name"]
LOSSES = [case for case in CASES if case[1] == "loss.name"]


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    long_but(
        CASES,
        [case for case in QUICK if case not in LOSSES],
        [case for case in CASES if case not in [*QUICK, *LOSSES]] + LOSSES[:2],
    ),
)
def test_no_command_runs_what_a_run_names(marker, trained, command, kind, key, name):
    image = next(trained(kind).data.rglob("*.png"))
    name = name.format(folder=marker.parent)
    evil_run(trained, kind, key, name)
    commands = {
        "eval": ["--workdir=run"],
        "predict": ["--workdir=run", "--out=found", image],
        "features": ["--workdir=run", "--out=a.npz", "--maps=logits", image],
    }
    for command_name, arguments in commands.items():
        code, _, err = command(command_name, *arguments)
        assert not marker.exists(), (command_name, key)
        if key == "loss.name":
            assert code == 0, err  # it is not needed
        elif key not in ("data.source", "data.name") or command_name == "eval":
            assert code == 2, (command_name, err)
            assert len(err.splitlines()) == 1
            assert name in err or "run.json" in err or "config" in err, err


PARTS = (("forward", "model"), ("loss", "loss"), ("inputs", "resize"))


@pytest.mark.slow
def test_neither_weights_nor_load_run_run_what_a_run_names(marker, trained, command):
    shutil.copytree(trained("colors").folder, "run")
    names = [name.format(folder=marker.parent) for name in NAMES]
    file = pathlib.Path("run/run.json")
    run = json.loads(file.read_text())
    for group, name in zip(("loss", "model", "optimizer"), names, strict=True):
        run["config"][group]["name"] = name
    parts = json.loads(json.dumps(run["task"]))
    for name in names:
        for evil in ({"object": name, "sha256": None}, {"name": name}, {"constructor": name}, name):
            for part, key in PARTS if name == names[0] else PARTS[:1]:
                run["task"] = {**parts, part: {**parts[part], key: evil}}
                file.write_text(json.dumps(run))
                if part == "loss":
                    assert jaxvision.load_run("run").task.loss is None
                else:
                    with pytest.raises(InputError):
                        jaxvision.load_run("run")
                assert not marker.exists()
        file.write_text(json.dumps({**run, "kind": name}))
        with pytest.raises(InputError, match="has no name in the library"):
            jaxvision.load_run("run")
    file.write_text(json.dumps(run))
    result_of(command, "convert", "--model=lenet5", "--weights=run", "out.npz")
    # Training from its weights, which ends for another reason once they are there.
    arguments = [*trained("colors").arguments, "--config.init_from=run", "--workdir=new"]
    code, _, err = command("train", *arguments, "--config.best.metric=none")
    assert code == 2
    assert "arrays are initialised from run, step 2\n" in err
    assert "config.best.metric is 'none'" in err
    assert not marker.exists()


LOSS = """
import jax

def poly_loss(logits, label, *, epsilon=1.0):
    log_p = jax.nn.log_softmax(logits)[label]
    return -log_p + epsilon * (1 - jax.numpy.exp(log_p)){more}, jax.numpy.float32(1)
"""
NET = """
import flax.linen as nn

class Net(nn.Module):
    num_classes: int
    width: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        c1 = nn.Conv(self.width, (8, 8), 8, name="conv")(images)
        return {"c1": c1, "logits": nn.Dense(self.num_classes, name="fc")(c1.mean((1, 2)))}
"""


@pytest.mark.slow
def test_a_run_needs_its_own_loss_for_training_alone_and_its_own_network_where_it_is_trusted(
    trained, command, tmp_path, monkeypatch
):
    file = tmp_path / "mine" / "losses.py"
    file.parent.mkdir()
    file.write_text(LOSS.format(more=""))
    (tmp_path / "mine" / "net.py").write_text(NET)
    (tmp_path / "other.py").write_text(NET)
    loss = {"name": "mine/losses.py:poly_loss", "epsilon": 2.0}
    model = {"name": "mine/net.py:Net", "width": 4}
    train = ["train", *trained("colors").arguments, f"--config.loss={loss}", "--workdir=run"]
    train.append(f"--config.model={model}")
    result, _ = result_of(command, *train)
    assert (tmp_path / "run" / "metrics.jsonl").is_file()
    # The same again is the same run, another function is not.
    again, err = result_of(command, *train)
    assert again == result
    assert "is finished" in err
    file.write_text(LOSS.format(more=" + 0 * epsilon"))
    code, out, err = command(*train)
    assert (code, out) == (2, "")
    assert "run has another run (the code of losses.py:poly_loss is another" in err
    file.unlink()
    code, _, err = command(*train)
    assert code == 2
    assert "loss 'mine/losses.py:poly_loss': there is no file " in err

    image = trained("colors").data / "test" / "red" / "0.png"
    commands = (
        ["eval", "--workdir=run"],
        ["predict", "--workdir=run", "--out=found", image],
        ["features", "--workdir=run", "--out=a.npz", image],
    )
    refused = (
        "error: the run in run names 'mine/net.py:Net' as its model, which is code that would run: "
        "give --trust-code=mine/net.py if you trust it\n"
    )
    for arguments in commands:
        for trust in ([], ["--trust-code=other.py"]):
            assert command(*arguments, *trust) == (2, "", refused)
        found, _ = result_of(command, *arguments, "--trust-code=other.py,mine/net.py")
        if arguments[0] == "eval":
            assert found["accuracy"] == result["accuracy"]
        else:
            assert found["images"] == 1
    features = np.load("a.npz")
    assert features["c1"].shape == (1, 4)
    # From another folder the file has another path.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found, _ = result_of(command, "eval", "--workdir=../run", "--trust-code=../mine/net.py")
    assert found["accuracy"] == result["accuracy"]
    with pytest.raises(InputError, match=r"Net.*give load_run\(\.\.\., task=\.\.\.\)"):
        jaxvision.load_run("../run")


@pytest.mark.parametrize(
    ("trusted", "name", "message"),
    [
        ((), "mine/own.py:f", "as its loss, which is code that would run: give --trust-code=min"),
        (("own.py",), "mine/own.py:f", "would run"),
        (("other/own.py",), "mine/own.py:f", "would run"),
        (("mine",), "mine/own.py:f", "would run"),
        ((), "package.module:f", "give --trust-code=package.module if you trust it"),
        (("package",), "package.module:f", "would run"),
        (("package.module",), "package.module:f", "No module named 'package'"),
        (("mine/own.py",), "mine/own.py:f", None),
        (("./mine/../mine/own.py",), "mine/own.py:f", None),
        (("mine/own.py",), "{folder}/mine/own.py:f", None),
        (("{folder}/mine/own.py",), "own.py:f", None),
    ],
)
def test_which_names_are_trusted(tmp_path, monkeypatch, trusted, name, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text("def f():\n    return 3\n")
    code = Code([part.format(folder=tmp_path) for part in trusted], origin="the run in runs/mine")
    name = name.format(folder=tmp_path)
    if message is None:
        assert code.find({}, name, "loss")() == 3
        assert code.find({"loss": len}, "loss", "loss") is len
    else:
        with pytest.raises(InputError, match=message) as error:
            code.find({}, name, "loss")
        assert "would run" not in str(error.value) or "the run in runs/mine" in str(error.value)
