"""The pages in docs/ show code that runs."""

import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxvision import interop
from jaxvision.cli.arguments import common_flags, define_config, parse, take_config
from jaxvision.cli.config import default_config
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.main import COMMANDS, run
from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.models.variables import random_variables

DOCS = pathlib.Path(__file__).parent.parent / "docs"
SCRIPT = DOCS / "own_loss.py"


def blocks_of(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_page_on_losses_shows_what_is_in_its_script():
    blocks = blocks_of("losses.md", "python")
    assert len(blocks) >= 5
    for block in blocks:
        assert block in SCRIPT.read_text(), block


def script(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_losses_of_the_page_pass_their_checks():
    script(SCRIPT).check()
    assert script(SCRIPT).task_with_it().kind == "classification"


@pytest.mark.long
def test_the_picture_of_the_digits_counts_the_errors_that_eval_does(tmp_path, monkeypatch, capsys):
    """It uses the EMA of the weights, whose errors differ from those of the last ones here."""
    usual = ["--config=digits_lenet5", f"--config.data.dir={tmp_path}"]
    short = ["--config.steps=10", "--config.eval_every=10", "--config.optimizer.ema_decay=0.999"]
    assert run("train", ["train", *usual, *short, f"--workdir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert run("eval", ["eval", f"--workdir={tmp_path / 'run'}"]) == 0
    errors = round(359 * (1 - json.loads(capsys.readouterr().out)["accuracy"]))
    module, titles = script(DOCS / "make_pictures.py"), []
    monkeypatch.setattr(
        module.Figure, "savefig", lambda figure, *_, **__: titles.append(upper_title(figure))
    )
    module.main([tmp_path / "run"])
    assert titles == [f"LeNet-5 on the 359 test digits, the least sure first: {errors} wrong (red)"]


def upper_title(figure):
    return figure.subfigs[0].get_suptitle()


@pytest.mark.long
def test_the_script_trains_by_name_and_draws_the_hardest_digits(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, f"--workdir={tmp_path}", "--steps=200"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "poly_loss" in (tmp_path / "run.json").read_text()
    assert "classification_loss" in (tmp_path / "metrics.jsonl").read_text()
    mean = re.search(r"359 test digits: mean loss ([\d.]+), mean norm ([\d.]+)", done.stdout)
    hardest = re.findall(r"digit \d: loss ([\d.]+), norm of its gradient ([\d.]+)", done.stdout)
    assert len(hardest) == 5
    for loss, norm in hardest:  # hard digits pull harder than the mean
        assert float(loss) > float(mean[1])
        assert float(norm) > float(mean[2])
    assert (tmp_path / "hardest.png").stat().st_size > 10_000


def test_the_commands_for_several_hosts_have_flags_that_exist():
    """In scripts and descriptions of jobs too, whose lines go on."""
    text = re.sub(r"\\?\n +(?=--)", " ", (DOCS / "scale.md").read_text())
    commands = re.findall(r"\bjaxvision train +(--[^\n\"]*)", text)
    assert len(commands) == 7
    for command in commands:
        assert "--config.parallel=shard_map" in command or "--num_processes" not in command
        words = shlex.split(command.replace("$JOB_COMPLETION_INDEX", "0"))
        name, rest = take_config(words, "")
        values = common_flags()
        define_config(values, name, rest)
        parse(values, ["train", *rest], "")
        assert values.workdir.startswith(("/runs", "/shared", "/mnt/shared"))
        assert (values.distributed or bool(values.num_processes)) == ("shard_map" in command)


@pytest.mark.parity
def test_the_page_on_weights_runs_and_its_network_equals_the_third_partys(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    _, _, third_party, ten_lines, proof, write, read, _ = blocks_of("weights.md", "python")
    page = {}
    exec(third_party + ten_lines + proof, page)
    from_torch = page.pop("variables")
    exec(write + read, page)
    jax.tree.map(np.testing.assert_array_equal, page["variables"], from_torch)
    # The comparison is one: the weights of another layer give another image.
    swap = {"2.weight": page["state_dict"]["5.weight"]}
    page["variables"] = page["from_state_dict"](
        page["state_dict"] | swap, page["like"], key_map=page["key_map"]
    )
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        exec(proof, page)

    (session,) = blocks_of("weights.md", "pycon")
    lines, _, shown = session.partition("InputError")
    *changes, fails = [line.removeprefix(">>> ") for line in lines.splitlines()]
    exec("\n".join(changes), page)
    with pytest.raises(InputError) as error:
        exec(fails, page)
    assert shown.strip() == f": {error.value}"


@pytest.mark.slow
def test_the_page_on_weights_reads_torchvisions_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.zeros((1, 32, 32, 3), np.float32)
    written = random_variables(create_model("resnet18", num_classes=10), images)
    interop.write_state_dict("resnet18.safetensors", interop.to_state_dict(written))
    page = {"images": images}
    exec(blocks_of("weights.md", "python")[1], page)
    jax.tree.map(np.testing.assert_array_equal, page["variables"], written)
    assert page["logits"].shape == (1, 10)


def test_the_page_on_weights_reads_darknets_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("yolov3.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n"
        "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
    )
    description = interop.read_cfg("yolov3.cfg")
    images = np.zeros((1, 8, 8, 3), np.float32)
    written = random_variables(interop.DarknetNetwork(description), images)
    interop.write_weights("yolov3.weights", description, written)
    page = {}
    exec(blocks_of("weights.md", "python")[-1], page)
    jax.tree.map(np.testing.assert_array_equal, page["variables"], written)
    assert page["network"].apply(page["variables"], images, train=False)


def test_the_page_on_weights_names_configs_keys_and_commands_that_exist():
    text = (DOCS / "weights.md").read_text()
    for config in re.findall(r"--config=(\S+)", text):
        assert (DOCS.parent / config).is_file()
    for group in {key.partition(".")[0] for key in re.findall(r"config\.(\w+)[. =]", text)}:
        assert any(group in default_config(task) for task in KINDS)
    assert set(re.findall(r"^\$ jaxvision (\S+)", text, re.MULTILINE)) <= COMMANDS.keys()


def test_published_weights_that_are_named_exist():
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md", *DOCS.parent.glob("configs/*.py")]
    text = "\n".join(page.read_text() for page in pages)
    named = re.findall(r"(?:weights|init_from)=(?!hub)(\w+):(\w+)", text)
    named += re.findall(r'load_pretrained\("(\w+)", "(\w+)"\)', text)
    assert len(named) >= 5
    for model, name in named:
        interop.find_published(model, name)


def test_the_rules_for_dncnn_on_the_page_on_weights_rename_all_keys():
    text = (DOCS / "weights.md").read_text()
    (depth, rules) = re.search(r"model\.depth=(\d+) --key-map='(0=\S+)'", text).groups()
    model = create_model("dncnn_s", depth=int(depth), width=2)
    like = random_variables(model, np.zeros((1, 8, 8, 1), np.float32))
    of_place = {"conv1": "0", "conv2": "2", "bn2": "3", "conv3": "5"}
    theirs = {
        f"{of_place[layer]}.{leaf}": array
        for key, array in interop.to_state_dict(like).items()
        for layer, leaf in [key.split(".")]
    }
    key_map = interop.KeyRules([tuple(rule.split("=")) for rule in rules.split(",")])
    read = interop.from_state_dict(theirs, like, key_map=key_map)
    jax.tree.map(np.testing.assert_array_equal, read, like)
