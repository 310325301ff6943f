"""A run on scenes with everything: mosaic, mixup, multi-scale; on one device and on several."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.data import Alternating, EvalLoader, ToDetectionExample, TrainLoader
from jaxvision.data.sources.scenes import scenes
from jaxvision.engine import Optimizer, Parallel, init_state, make_evaluate, make_update
from jaxvision.tasks import detection
from tests.tasks.test_detection import config_of

pytestmark = pytest.mark.slow

STEPS, BATCH, COUNT = 12, 8, 22
SIZES = (32, 48)


class Scenes:
    """The first test scenes, in memory."""

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

    def where(self, index):
        return f"scene {index}"


def transform_of(size):
    return ToDetectionExample((size, size), num_classes=10, max_boxes=8)


def task_of(**changes):
    config = config_of(
        augment__mosaic=0.7,
        augment__mixup=0.3,
        augment__scale=(0.8, 1.2),
        augment__flip=0.5,
        augment__hue=0.1,
        augment__saturation=1.5,
        augment__value=1.5,
        data__class_names=tuple("0123456789"),
        data__sizes=SIZES,
        loss__prior_steps=5,
        **changes,
    )
    return detection(config)


@pytest.fixture(scope="module")
def source():
    return Scenes()


def train(task, source, devices, kind="pmap"):
    """Losses of each step and the state after the last, as `tests.engine.test_update`."""
    transform = Alternating(tuple(map(transform_of, SIZES)), every=2, seed=3)
    loader = TrainLoader(source, transform, batch_size=BATCH, seed=3, partners=task.partners)
    parallel = Parallel(kind, jax.devices()[:devices])
    transformation = optax.with_extra_args_support(optax.sgd(0.002, momentum=0.9))
    optimizer = Optimizer(transformation, lambda _: 0.002)
    update = make_update(task, optimizer, seed=3, parallel=parallel)
    state = init_state(task, optimizer, 3)
    doubled = jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )
    state = parallel.replicate(doubled)
    losses, sizes = [], set()
    for _ in range(STEPS):
        batch = next(loader)
        sizes.add(batch.image.shape[1])
        state, record = update(state, parallel.shard(batch))
        losses.append(float(record["loss"]))
    assert sizes == set(SIZES)
    assert update.compilations == len(SIZES), "one for each size, and no more"
    return np.array(losses), jax.device_get(state)


@pytest.fixture(scope="module")
def one_device(source):
    with jax.enable_x64():
        return train(task_of(), source, 1)


@pytest.mark.parametrize(
    ("devices", "kind"),
    [(4, "pmap"), (2, "shard_map")],
)
def test_losses_do_not_depend_on_the_devices(one_device, source, devices, kind):
    """In float64, as rounding in float32 now and then moves an input of a ReLU across 0."""
    expected, _ = one_device
    with jax.enable_x64():
        losses, _ = train(task_of(), source, devices, kind)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert len(set(losses)) == STEPS
    assert losses[-3:].mean() < losses[:3].mean()


def test_evaluation_does_not_depend_on_filler_padding_or_devices(one_device, source):
    task, (_, state) = task_of(), one_device
    numbers = []
    for devices, batch_size, max_boxes in ((1, 11, 8), (4, 8, 8), (2, 16, 13)):
        parallel = Parallel("pmap", jax.devices()[:devices])
        transform = ToDetectionExample((32, 32), num_classes=10, max_boxes=max_boxes)
        single = jax.tree.map(
            lambda x: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x, state
        )
        evaluation = make_evaluate(task, parallel=parallel)(
            parallel.replicate(single), EvalLoader(source, transform, batch_size=batch_size)
        )
        found, objects = evaluation.collected
        assert len(objects.mask) == len(found.valid) == COUNT
        assert objects.box_mask.sum() == sum(len(source[i]["labels"]) for i in range(COUNT))
        numbers.append(evaluation.metrics)
    assert numbers[0]["AR100"] > 0
    for other in numbers[1:]:
        assert other == pytest.approx(numbers[0], rel=1e-4, abs=1e-6)
