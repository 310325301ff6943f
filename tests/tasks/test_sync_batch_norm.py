"""Batch norms of each device: one all-reduce of all, running statistics that are their mean."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import AXIS, ClassificationBatch, DetectionBatch, Inputs, Keys
from jaxvision.engine import Parallel, Phase, abstract_state, init_state, make_update, seed_array
from jaxvision.engine.parallel import KINDS
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.tasks import (
    classification,
    detection,
    detectors,
    landmarks,
    restoration,
    segmentation,
    with_frozen_statistics,
)
from tests.marks import slow_but
from tests.models import test_faster_rcnn, test_unet, test_yolo

NORMS = 5  # of the network below
SYNC = [False, True]
OPTIMIZER = Phase(optax.sgd(0.1, momentum=0.9))


def tiny_task(**options):
    model = create_model("resnet20", num_classes=10, blocks=1, widths=(4, 6))
    return classification(model, Inputs((8, 8), channels=1), class_names=10, **options)


def batch_of(size):
    """Images that become brighter."""
    rng = np.random.default_rng(0)
    brightness = np.linspace(0.2, 1, size)[:, None, None, None]
    return ClassificationBatch(
        image=(brightness * rng.integers(0, 256, (size, 8, 8, 1))).astype(np.uint8),
        label=rng.integers(0, 10, size).astype(np.int32),
        weight=np.linspace(0.5, 2, size).astype(np.float32),
        mask=np.ones(size, bool),
    )


def step(task, devices, kind="pmap"):
    """(variables before a step, the state after it, still on the devices)."""
    parallel = Parallel(kind, jax.devices()[:devices])
    state = init_state(task, OPTIMIZER, 0)
    before = jax.device_get(state.variables)
    update = make_update(task, OPTIMIZER, parallel=parallel)
    state, _ = update(parallel.replicate(state), parallel.shard(batch_of(12)), seed_array(0))
    return before, state


def all_reduces(task, kind):
    """How many there are in the compiled step of four devices."""
    state, batch = abstract_state(task, OPTIMIZER), batch_of(8)
    parallel = Parallel(kind, jax.devices()[:4])
    if kind == "pmap":
        batch = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)
    update = make_update(task, OPTIMIZER, parallel=parallel)
    program = update.lower(state, batch, seed_array(0)).compile().as_text()
    return len(re.findall(r" all-reduce\(", program))


@pytest.mark.parametrize(
    ("kind", "sync"), slow_but(itertools.product(KINDS, SYNC), [("shard_map", False)])
)
def test_the_weights_are_one_all_reduce_and_all_the_rest_another(kind, sync):
    count = all_reduces(tiny_task(sync_batch_norm=sync), kind)
    # Forward, of the squares and the means at once, and backward; the first layer's too.
    assert count == 2 if not sync else count >= 2 + 2 * NORMS - 1


def test_running_statistics_are_the_means_over_the_devices():
    task = tiny_task(sync_batch_norm=False)
    before, state = step(task, 3, "shard_map")
    prepared = jax.vmap(task.prepare)(batch_of(12))
    parts = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), prepared)
    keys = Keys(jax.random.split(jax.random.key(0), 4), jax.random.key(0))

    @jax.jit
    @jax.vmap
    def own(part):
        return task.forward(before, part, keys=keys, step=0, train=True)[1]

    expected = jax.tree.map(lambda x: x.mean(axis=0), jax.device_get(own(parts)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        jax.device_get(state.statistics),
        expected,
    )
    copies = [[shard.data for shard in x.addressable_shards] for x in jax.tree.leaves(state)]
    for first, *others in copies:
        assert len(others) == 2
        assert all(np.array_equal(first, other) for other in others)
    # The variance of the whole batch is not the mean of those of its parts.
    whole = step(tiny_task(), 3)[1].statistics["batch_stats"]["bn1"]
    norm = state.statistics["batch_stats"]["bn1"]
    np.testing.assert_allclose(norm["mean"], whole["mean"], rtol=1e-5)
    assert np.abs(norm["var"] - whole["var"]).max() > 1e-4


def test_what_is_frozen_stays_to_the_bit_on_three_devices():
    task = with_frozen_statistics(tiny_task(sync_batch_norm=False), ("bn1",))
    assert not task.sync_batch_norm
    before, state = step(task, 3)
    after = jax.device_get(state.statistics)
    for name, norm in before["batch_stats"].items():
        for kind, x in norm.items():
            assert np.array_equal(x, after["batch_stats"][name][kind]) == (name == "bn1"), name


@pytest.mark.slow
def test_one_device_does_the_same_either_way():
    alone, same = (step(tiny_task(sync_batch_norm=sync), 1)[1] for sync in SYNC)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7),
        jax.device_get(alone.variables),
        jax.device_get(same.variables),
    )


def unet_for(make, **options):
    model = test_unet.tiny("unet", norm=batch_norm)
    return make(model, Inputs((32, 32)), **options)


def of_yolo(**options):
    model = test_yolo.tiny("yolov2")
    detector = detectors.yolov2(model, anchors=[(10, 10)] * model.num_anchors)
    return detection(detector, Inputs((64, 64)), class_names=3, **options)


def of_rcnn(**options):
    detector = detectors.faster_rcnn(test_faster_rcnn.tiny(norm=batch_norm))
    return detection(detector, Inputs((64, 96)), class_names=3, **options)


def of_photographs(**options):
    model = create_model("dncnn_b", depth=3, width=4)
    return restoration(model, Inputs((32, 32)), **options)


TASKS = {
    "classification": tiny_task,
    "detection": of_yolo,
    "two stages": of_rcnn,
    "landmarks": functools.partial(unet_for, landmarks, landmark_names=("a", "b", "c")),
    "restoration": of_photographs,
    "segmentation": functools.partial(unet_for, segmentation, class_names=3),
}


@pytest.mark.parametrize("name", slow_but(TASKS, ["classification", "restoration"]))
def test_the_norms_of_each_task_average_over_the_devices_or_do_not(name):
    for sync in SYNC:
        task = TASKS[name](sync_batch_norm=sync)
        assert task.sync_batch_norm == sync
        image = jax.ShapeDtypeStruct((2, *task.inputs.shape), jnp.float32)
        boxes = jax.ShapeDtypeStruct((2, 1, 4), jnp.float32)
        flags = jax.ShapeDtypeStruct((2, 1), bool)
        batch = DetectionBatch(
            image=image,
            boxes=boxes,
            labels=jax.ShapeDtypeStruct((2, 1), jnp.int32),
            box_mask=flags,
            crowd=flags,
            difficult=flags,
            mask=jax.ShapeDtypeStruct((2,), bool),
            extent=jax.ShapeDtypeStruct((2, 2), jnp.int32),
        )

        def forward(variables, batch, task=task):
            keys = Keys(jax.random.split(jax.random.key(0), 2), jax.random.key(0))
            return task.forward(variables, batch, keys=keys, step=0, train=True)

        variables = jax.eval_shape(task.init, jax.random.key(0))
        traced = jax.make_jaxpr(forward, axis_env=[(AXIS, 2)])(variables, batch)
        assert (f"axes=('{AXIS}',)" in str(traced)) == sync
