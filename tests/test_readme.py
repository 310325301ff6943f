"""The README's examples run, in order, on small data."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxvision.cli.arguments import common_flags, define_config, parse, take_config
from jaxvision.cli.main import COMMANDS
from jaxvision.predict import VideoWriter
from tests.data.folders import write_colors, write_voc

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What makes the examples quick: smaller images, networks and batches, and fewer steps.
SMALLER = {
    "(224, 224)": "(32, 32)",
    '"resnet18", num': '"resnet20", widths=(4, 4, 8), num',
    "(416, 416)": "(64, 64)",
    "batch_size=64": "batch_size=4",
    "batch_size=16": "batch_size=4",
    "steps=1000": "steps=4",
    "steps=2000": "steps=2",
}
# What must hold after the last example.
AFTERWARDS = """
import chex

assert run.class_names == ("blue", "red")
assert found.result["label"] in run.class_names
assert measured.tables["class_f1"].shape == (2,)
assert frame.source == 2 and frame.result["label"] in run.class_names
assert found.result["probabilities"].shape == (2,)
assert fitted.finished and int(fitted.state.step) == 2
chex.assert_tree_all_finite((fitted.variables, gradient, closeness))
chex.assert_shape(indices, (16, 100))
print("all examples ran")
"""


def smaller(text):
    for old, new in SMALLER.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    write_colors(tmp_path / "photos", 12)
    shutil.copy(tmp_path / "photos/train/red/0.png", tmp_path / "new.jpg")
    write_voc(tmp_path / "objects")
    pytest.importorskip("av")
    with VideoWriter(tmp_path / "film.mp4", 12) as writer:
        for value in range(3):
            writer.write(np.full((20, 30, 3), 90 * value, np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", smaller("\n\n".join(BLOCKS)) + AFTERWARDS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all examples ran"
    assert (tmp_path / "runs/photos/run.json").is_file()


def test_a_classifier_is_trained_without_a_config_in_15_lines():
    (block,) = [block for block in BLOCKS if "ImageFolder" in block]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    assert "config" not in "".join(BLOCKS)


def test_the_sacred_commands_come_first():
    first, *_ = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    assert first == "$ pip install -e . && python train.py\n$ pip install -e '.[test]' && pytest\n"


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "docs/losses.md", "docs/scale.md", "docs/transfer.md"),
        "docs/weights.md",
    ],
)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / document).parent / target).exists(), target


def commands_of(document):
    """The words of each command of a page, without what it prints."""
    text = (ROOT / document).read_text()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for shown in re.split(r"^\$ ", re.sub(r"\\\n", " ", block), flags=re.MULTILINE)[1:]:
            command = ""
            for line in shown.splitlines():  # a quoted word may have several lines
                command += f"{line}\n"
                if all(command.count(mark) % 2 == 0 for mark in "'\""):
                    break
            yield shlex.split(command, comments=True)


@pytest.mark.parametrize(
    "document", ["README.md", "docs/losses.md", "docs/transfer.md", "docs/weights.md"]
)
def test_commands_exist_and_their_flags_can_be_parsed(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    for program, *argv in commands_of(document):
        if program == "jaxvision":
            assert argv[0] in COMMANDS
        if (program, *argv[:1]) == ("python", "train.py"):
            name, rest = take_config(argv, "digits_lenet5")
            flags = common_flags()
            define_config(flags, name, rest)
            parse(flags, rest, "")


def test_every_config_is_in_the_readme():
    for path in (ROOT / "configs").glob("*.py"):
        assert f"`{path.stem}`" in README, path.stem
