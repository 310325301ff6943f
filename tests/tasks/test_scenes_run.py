"""A run on scenes with everything: mosaic, mixup, multi-scale; on one device and on several."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import augment as aug
from jaxvision.core import Inputs
from jaxvision.data import EvalLoader, MultiScale, ToDetection, TrainLoader
from jaxvision.data.sources.scenes import scenes
from jaxvision.tasks import detection, detectors
from tests.marks import long_but
from tests.tasks.loop import evaluate, train
from tests.tasks.test_detection import ANCHORS, model_of

pytestmark = pytest.mark.slow

STEPS, BATCH, COUNT = 12, 8, 22
SIZES = (32, 48)
NAMES = tuple("0123456789")


class Scenes:
    """The first test scenes, in memory."""

    class_names = NAMES

    def __init__(self):
        self._scenes = list(itertools.islice(scenes("test"), COUNT))

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        image, _, boxes, labels = self._scenes[index]
        none = np.zeros(len(labels), bool)
        return {
            "image": image,
            "boxes": boxes.astype(np.float64),
            "labels": labels,
            "crowd": none,
            "difficult": none,
            "area": None,
            "masks": None,
        }

    def target(self, index):
        return {name: x for name, x in self[index].items() if name != "image"}

    def where(self, index):
        return f"scene {index}"


def transform_of(size, max_boxes=8):
    inputs = Inputs((size, size), resize="letterbox")
    return ToDetection(inputs, len(NAMES), max_boxes=max_boxes)


def scenes_task():
    steps = (
        aug.Mosaic(0.7),
        aug.Mixup(0.3),
        aug.ScaleTranslate(scale=(0.8, 1.2)),
        aug.RandomFlip(0.5),
        aug.RandomHsv(0.1, 1.5, 1.5),
    )
    detector = detectors.yolov2(model_of("yolov2", num_classes=10), ANCHORS, prior_steps=5)
    inputs = Inputs((SIZES[0], SIZES[0]), resize="letterbox")
    return detection(detector, inputs, class_names=NAMES, augment=steps)


@pytest.fixture(scope="module")
def source():
    return Scenes()


def run(source, devices, sizes):
    """Losses of each step and the variables after the last."""
    task = scenes_task()
    transform = MultiScale(tuple(map(transform_of, sizes)), every=2, seed=3)
    loader = TrainLoader(source, transform, batch_size=BATCH, seed=3, partners=task.partners)
    batches = [next(loader) for _ in range(STEPS)]
    assert {batch.image.shape[1] for batch in batches} == set(sizes)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), jax.jit(task.init)(jax.random.key(3)))
    optimizer = optax.sgd(0.002, momentum=0.9)
    return train(task, batches, devices, optimizer=optimizer, variables=variables, seed=3)


@pytest.fixture(scope="module")
def one_device(source):
    """What `run` gives on one device, by the sizes of the images."""

    @functools.cache
    def run_alone(sizes):
        with jax.enable_x64():
            return run(source, 1, sizes)

    return run_alone


# The step is compiled for each size and number of devices, which takes nearly all the time.
@pytest.mark.parametrize(
    ("devices", "sizes"), long_but([(4, SIZES[:1]), (2, SIZES), (4, SIZES)], [])
)
def test_losses_do_not_depend_on_the_devices(one_device, source, devices, sizes):
    """In float64, as rounding in float32 now and then moves an input of a ReLU across 0."""
    alone = one_device(sizes)
    with jax.enable_x64():
        losses = run(source, devices, sizes).losses
    np.testing.assert_allclose(losses, alone.losses, rtol=1e-6)
    assert len(set(losses)) == STEPS
    assert losses[-3:].mean() < losses[:3].mean()


def test_evaluation_does_not_depend_on_filler_or_padding(one_device, source):
    task, numbers = scenes_task(), []
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), one_device(SIZES[:1]).variables)
    for batch_size, max_boxes in ((11, 8), (8, 8), (16, 13)):
        data = EvalLoader(source, transform_of(32, max_boxes), batch_size=batch_size)
        targets = data.targets()
        found = evaluate(task, variables, data, targets)
        assert len(found.collected.valid) == len(targets) == COUNT
        assert sum(len(record["labels"]) for record in targets) == sum(
            len(source[i]["labels"]) for i in range(COUNT)
        )
        numbers.append(found.metrics)
    assert numbers[0]["AR100"] > 0
    for other in numbers[1:]:
        assert other == pytest.approx(numbers[0], rel=1e-4, abs=1e-6)
