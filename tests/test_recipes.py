"""The recipes of CONTRIBUTING.md are true: a copy of the package is changed as they say, and used.

Each recipe changes the files that its section lists, and no others.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.data.folders import write_voc

ROOT = pathlib.Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


class New(NamedTuple):
    """A new file."""

    text: str


LOSS = '''"""A loss for the test of the recipes."""

from jax import Array

from jaxvision.losses.classification import cross_entropy


def doubled_loss(logits: Array, target: Array, *, factor: float = 2.0) -> tuple[Array, Array]:
    """Returns (factor times the cross entropy, weight)."""
    total, weight = cross_entropy(logits, target)
    return factor * total, weight
'''

BACKBONE = '''"""A small network for the test of the recipes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.layers import batch_norm


class SmallNet(nn.Module):
    width: int = 4
    num_classes: int | None = 10
    norm: Any = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x, maps = images, {}
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for level in (1, 2):
            x = nn.Conv(self.width, (3, 3), 2, padding=1, name=f"conv{level}", **types)(x)
            how = {"train": train, "axis_name": self.axis_name, "name": f"bn{level}", **types}
            x = maps[f"c{level}"] = nn.relu(self.norm(x, **how))
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **types)(x.mean((1, 2)))
        return maps


SMALL_NETS = {"small_net": SmallNet}
'''

SOURCE = '''"""Stripes, for the test of the recipes."""

import numpy as np


class Stripes:
    """Images of stripes that are across or upright."""

    class_names = ("across", "upright")

    def __init__(self, split):
        self.labels = np.arange(16 if split == "train" else 4) % 2

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = np.broadcast_to(np.uint8([0, 255] * 4)[:, None, None], (8, 8, 1))
        label = self.labels[index]
        return {"image": image.swapaxes(0, 1) if label else image, "label": int(label)}

    def where(self, index):
        return f"stripes {index}"

    def target(self, index):
        return {"label": int(self.labels[index])}
'''

AUGMENTATION = '''"""An augmentation for the test of the recipes."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxvision.augment.move import change_images


@dataclass(frozen=True)
class Negative:
    """Turns the image into its negative.

    Attributes:
      probability: of that.
    """

    probability: float = 0.5
    partners: ClassVar[int] = 0

    def __call__(self, key, example):
        chosen = jax.random.bernoulli(key, self.probability)
        return change_images(example, lambda image: jnp.where(chosen, 255 - image, image))
'''

DETECTOR = '''"""A detector with one box in each cell, for the test of the recipes."""

import jax
import jax.numpy as jnp

from jaxvision.core import describe, extent_of
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.names import NAMES

STRIDE = 4


def cells_loss(outputs, example):
    """Only for the test: it looks at nothing."""
    return {"cells": ((outputs["logits"] ** 2).mean(), 1.0)}


def cells(model, *, loss=cells_loss, decode=DetectOptions()):
    """Each cell is a box of its class."""

    def decode_maps(outputs, example):
        rows, columns, anchors, depth = outputs["logits"].shape
        x, y = jnp.meshgrid(jnp.arange(columns), jnp.arange(rows))
        corner = STRIDE * jnp.stack([x, y], -1).repeat(anchors, axis=0).reshape(-1, 2)
        boxes = jnp.concatenate([corner, corner + STRIDE], -1).astype(jnp.float32)
        scores = jax.nn.sigmoid(outputs["logits"][..., 5:]).reshape(-1, depth - 5)
        return detect(boxes, scores, image_size=extent_of(example), options=decode)

    origin = {
        "model": (model, describe(model, NAMES)),
        "decode": (decode_maps, {"detector": "cells", "decode": describe(decode, NAMES)}),
    }
    return Detector(model, loss, decode_maps, multiple_of=STRIDE, origin=origin)
'''

KIND = '''"""The brightness of images: a kind of task for the test of the recipes."""

import jax.numpy as jnp

from jaxvision.core import Task, describe, restore
from jaxvision.tasks.building import augment_of, described, forward_of, init_of, prepare_of
from jaxvision.tasks.names import NAMES


def brightness(model, inputs, *, loss=True):
    """Creates the task of predicting the mean of an image."""
    forward = forward_of(model)

    def squares(outputs, example):
        return {"squares": ((outputs["logits"][0] - example.image.mean()) ** 2, jnp.float32(1))}

    return Task(
        init=init_of(model, inputs.shape),
        augment=augment_of(()),
        prepare=prepare_of(inputs),
        forward=forward,
        loss=(lambda outputs, example, *, key, step: squares(outputs, example)) if loss else None,
        metrics=lambda outputs, example: {"error": squares(outputs, example)["squares"]},
        decode=lambda outputs, example: {"brightness": outputs["logits"][0]},
        kind="brightness",
        inputs=inputs,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, described(model=model)),
        },
    )


def restore_brightness(parts):
    """The task for evaluation that a description tells of."""
    model, inputs = parts["forward"]["model"], parts["inputs"]
    return brightness(restore(model, NAMES), restore(inputs, NAMES), loss=False)
'''

KIND_OF_CLI = '''"""Brightness on the command line."""

from dataclasses import dataclass

from jaxvision import data, tasks
from jaxvision.cli.kinds.kind import Built, DataOptions, Kind, build_model
from jaxvision.cli.options import read_group
from jaxvision.core import Inputs


@dataclass(frozen=True)
class BrightnessData(DataOptions):
    """The data of brightness.

    Attributes:
      source: "stripes".
    """

    source: str = "stripes"
    image_size: int = 8


def build(config, class_names, code, evaluation):
    """The task and the transforms of a config."""
    options = read_group(BrightnessData, config.data, "config.data")
    inputs = Inputs((options.image_size,) * 2, channels=1)
    task = tasks.brightness(build_model(config, code, num_classes=1), inputs, loss=not evaluation)
    transform = data.ToClassification(inputs, 2)
    return Built(task, transform, transform)


BRIGHTNESS = Kind(
    name="brightness",
    groups={"data": BrightnessData},
    defaults={"best.metric": "error", "best.mode": "min", "model.name": "small_net"},
    sources={"stripes": lambda options, split: data.Stripes(split)},
    build=build,
    transform=lambda task: data.ToClassification(task.inputs, 2),
)
'''

CLASSIFICATION = "jaxvision/cli/kinds/classification.py"
# Title of a section -> file -> the new file, or pieces of text and what comes before each of them.
RECIPES = {
    "a loss": {
        "jaxvision/losses/doubled.py": New(LOSS),
        "jaxvision/losses/__init__.py": [
            (
                "from jaxvision.losses.landmarks import",
                "from jaxvision.losses.doubled import doubled_loss\n",
            ),
            ('    "fast_rcnn_loss",\n', '    "doubled_loss",\n'),
        ],
        "jaxvision/tasks/names.py": [
            ("    heatmap_l2_loss,\n", "    doubled_loss,\n"),
            (
                '        "softmax_focal_loss": softmax_focal_loss,\n',
                '        "doubled_loss": doubled_loss,\n',
            ),
        ],
    },
    "a backbone": {
        "jaxvision/models/backbones/small_net.py": New(BACKBONE),
        "jaxvision/models/__init__.py": [
            (
                "from jaxvision.models.backbones.squeezenet import",
                "from jaxvision.models.backbones.small_net import SMALL_NETS\n",
            ),
            ("    SQUEEZENETS,\n", "    SMALL_NETS,\n"),
        ],
    },
    "a data set": {
        "jaxvision/data/sources/stripes.py": New(SOURCE),
        "jaxvision/data/__init__.py": [
            (
                "from jaxvision.data.sources.subsets import",
                "from jaxvision.data.sources.stripes import Stripes\n",
            ),
            ('    "Subset",\n', '    "Stripes",\n'),
        ],
        CLASSIFICATION: [
            ('"npz" (of', '"stripes" (embedded), '),
            (
                '        "tfds": _tfds,\n',
                '        "stripes": lambda options, split: data.Stripes(split),\n',
            ),
        ],
    },
    "an augmentation": {
        "jaxvision/augment/negative.py": New(AUGMENTATION),
        "jaxvision/augment/__init__.py": [
            (
                "from jaxvision.augment.rand_augment import",
                "from jaxvision.augment.negative import Negative\n",
            ),
            ('    "RandAugment": RandAugment,\n', '    "Negative": Negative,\n'),
            ('    "RandAugment",\n', '    "Negative",\n'),
        ],
        CLASSIFICATION: [
            (
                "      mixup: probability that two images are blended",
                "      negative: probability that an image becomes its negative.\n",
            ),
            ("    mixup: float = 0.0\n", "    negative: float = 0.0\n"),
            (
                "            (\n                self.mixup or self.cutmix,",
                "            (self.negative, lambda: aug.Negative(self.negative)),\n",
            ),
        ],
    },
    "a detector": {
        "jaxvision/tasks/detectors/cells.py": New(DETECTOR),
        "jaxvision/tasks/detectors/__init__.py": [
            (
                "from jaxvision.tasks.detectors.detector import",
                "from jaxvision.tasks.detectors.cells import cells\n",
            ),
            ('    "yolov1": yolov1,\n', '    "cells": cells,\n'),
        ],
        "jaxvision/models/detection/yolov2.py": [
            (
                '    "yolov2_tiny": partial(',
                '    "yolov2_level2": partial(YOLOv2, level=2, convolutions=(4,), '
                "passthrough=None),\n",
            ),
        ],
    },
    "a kind of task": {
        "jaxvision/tasks/brightness.py": New(KIND),
        "jaxvision/tasks/__init__.py": [
            (
                "from jaxvision.tasks.classification import",
                "from jaxvision.tasks.brightness import brightness, restore_brightness\n",
            ),
            (
                '    "classification": restore_classification,\n',
                '    "brightness": restore_brightness,\n',
            ),
            ('    "classification",\n', '    "brightness",\n'),
        ],
        "jaxvision/cli/kinds/brightness.py": New(KIND_OF_CLI),
        "jaxvision/cli/kinds/__init__.py": [
            (
                "from jaxvision.cli.kinds.classification import",
                "from jaxvision.cli.kinds.brightness import BRIGHTNESS\n",
            ),
            ("CLASSIFICATION, DETECTION, LANDMARKS", "BRIGHTNESS, "),
        ],
    },
}
MOST = {"a loss": 4, "a kind of task": 4}  # places; 3 of the others

CONFIGS = """
from jaxvision.cli.config import default_config


def get_config():
    config = default_config("{task}")
    config.steps, config.eval_every, config.batch_size = 2, 2, 4
    {changes}
    return config
"""

# In a process of its own, which imports the copy.
USE = """
import json, pathlib, sys
import jax, jax.numpy as jnp, numpy as np
import jaxvision
from jaxvision import augment, data, losses, tasks

assert losses.doubled_loss and augment.Negative and tasks.brightness
from jaxvision.cli.config import documented_keys
from jaxvision.cli.main import run

assert pathlib.Path(jaxvision.__file__).is_relative_to(pathlib.Path.cwd())


def train(name, **options):
    flags = [f"--config={name}.py", f"--workdir={name}"]
    assert run("train", ["train", *flags]) == 0
    described = json.loads(pathlib.Path(name, "run.json").read_text())
    loaded = jaxvision.load_run(name)
    assert run("eval", ["eval", f"--workdir={name}"]) == 0
    return described, loaded


# A loss, a backbone, a data set and an augmentation, in one training from the command line.
described, loaded = train("stripes")
assert described["task"]["forward"]["model"] == {"name": "model/small_net", "num_classes": 2}
assert described["task"]["loss"] == {"loss": {"name": "doubled_loss", "factor": 3.0}}
assert described["task"]["augment"] == {"augment": [{"name": "Negative", "probability": 1.0}]}
assert described["code"] == {}, "no code of the user's own"
assert loaded.class_names == data.Stripes.class_names
(found,) = jaxvision.predict(loaded.task, loaded.variables, [data.Stripes("test")[0]["image"]])
assert found.result["label"] in loaded.class_names
meaning = documented_keys("classification")
assert "stripes" in meaning["data.source"]
assert meaning["augment.negative"] == "probability that an image becomes its negative."

# A backbone is also one of detectors; its detector is loaded again by its name.
described, loaded = train("cells")
model = described["task"]["forward"]["model"]
assert model["name"] == "yolov2_level2", model
assert "small_net" in json.dumps(model["backbone"]), model
assert loaded.task.kind == "detection"
(found,) = jaxvision.predict(loaded.task, loaded.variables, [np.zeros((16, 16, 3), np.uint8)])
assert found.result.boxes.shape[1] == 4
maps = jaxvision.create_model("unet_backbone", backbone="small_net", widths=(4,), num_classes=2)
jax.eval_shape(lambda: maps.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False))

# A kind of task.
described, loaded = train("brightness")
assert described["kind"] == loaded.task.kind == "brightness"
(found,) = jaxvision.predict(loaded.task, loaded.variables, [data.Stripes("test")[0]["image"]])
assert np.isfinite(found.result["brightness"])
print("every recipe holds")
"""


def places_of(title):
    """The files that a section of CONTRIBUTING.md lists."""
    section = re.search(rf"^## Adding {title}\n(.*?)(?=^## |\Z)", CONTRIBUTING, re.M | re.S)[1]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def fits(file, place):
    """Whether a file is one that a place such as "jaxvision/ops/FILE.py" stands for."""
    return re.fullmatch(re.sub("[A-Z]{4,}", r"\\w+", re.escape(place)), file) is not None


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_names_the_files_that_it_changes(title):
    places = places_of(title)
    assert len(places) <= MOST.get(title, 3)
    library = [place for place in places if place.startswith("jaxvision/")]
    assert len(library) == len(RECIPES[title])
    for file, place in zip(RECIPES[title], library, strict=True):
        assert fits(file, place), (file, place)


def test_the_other_files_of_the_recipes_are_there():
    sections = re.findall(r"^## Adding (.*)$", CONTRIBUTING, re.MULTILINE)
    assert set(sections) == {"an operator", *RECIPES}
    for place in {place for title in sections for place in places_of(title)}:
        if not re.search("[A-Z]{4,}", place):
            assert (ROOT / place).is_file(), place


def test_the_table_of_layers_is_that_of_the_test():
    from tests.test_layers import LAYERS

    rows = re.findall(r"^\| (\d) \| (.*) \|$", CONTRIBUTING, re.MULTILINE)
    for package, layer in LAYERS.items():
        assert f"`{package}`" in dict(rows)[str(layer)], package


def follow(recipe, folder):
    """Changes a copy of the package as a recipe says."""
    for name, change in recipe.items():
        file = folder / name
        if isinstance(change, New):
            assert not file.exists()
            file.write_text(change.text)
            continue
        text = file.read_text()
        for before, added in change:
            assert before in text, (name, before)
            text = text.replace(before, added + before, 1)
        file.write_text(text)


@pytest.mark.slow
def test_the_recipes_hold(tmp_path):
    shutil.copytree(
        ROOT / "jaxvision", tmp_path / "jaxvision", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for recipe in RECIPES.values():
        follow(recipe, tmp_path)
    configs = {
        "stripes": (
            "classification",
            'config.model.name = "small_net"; config.data.source = "stripes"; '
            "config.data.image_size = 8; config.data.validation_fraction = 0.25; "
            'config.loss.name = "doubled_loss"; config.loss.factor = 3.0; '
            "config.augment.negative = 1.0",
        ),
        "cells": (
            "detection",
            'config.model.name = "yolov2_level2"; config.model.backbone = "small_net"; '
            f'config.detector.name = "cells"; config.data.dir = "{tmp_path / "voc"}"; '
            'config.data.source = "voc"; config.data.test_split = "train"; '
            "config.data.image_size = 16; config.data.validation_fraction = 0.0",
        ),
        "brightness": ("brightness", "config.data.validation_fraction = 0.25"),
    }
    for name, (task, changes) in configs.items():
        (tmp_path / f"{name}.py").write_text(CONFIGS.format(task=task, changes=changes))
    write_voc(tmp_path / "voc")
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "every recipe holds"
