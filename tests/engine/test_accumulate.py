"""Gradients that are added over parts of a batch: the update is that of the whole batch."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import AXIS, InputError, Inputs, Keys, OptionError
from jaxvision.engine import (
    Parallel,
    Phase,
    abstract_state,
    fit,
    init_state,
    make_update,
    read_run,
    seed_array,
)
from jaxvision.ops.primitives import dce_jaxpr
from jaxvision.tasks import detection, detectors, with_frozen_statistics
from tests.engine.box_task import box_batches, box_task
from tests.engine.image_task import image_batches, image_task
from tests.engine.sized_task import WeightedBatch, sized_task
from tests.engine.small_task import small_batches, small_task
from tests.engine.stream import Stream
from tests.marks import slow_but
from tests.models import test_yolo
from tests.tasks import (
    test_classification,
    test_landmarks,
    test_one_stage,
    test_restoration,
    test_segmentation,
    test_two_stage,
)

OPTIMIZER = Phase(optax.sgd(0.1, momentum=0.9), schedule=lambda step: 0.1)


ALONE = Parallel("pmap", jax.devices()[:1])


def in_float64(tree):
    return jax.tree.map(
        lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def two_steps(task, batch, accumulate, devices=1, kind="pmap"):
    """(state, record) after two steps in float64."""
    parallel = Parallel(kind, jax.devices()[:devices])
    with jax.enable_x64():
        update = make_update(task, OPTIMIZER, parallel=parallel, accumulate=accumulate)
        state = in_float64(jax.device_get(init_state(task, OPTIMIZER, 0)))
        state, batch = parallel.replicate(state), parallel.shard(in_float64(batch))
        for _ in range(2):
            state, record = update(state, batch, seed_array(3))
        return jax.device_get((state, record))


def assert_close(found, expected):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        # A metric that counts is in float32 in any case.
        tolerance = 1e-9 if x.dtype == np.float64 else 1e-6
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * 1e-3, err_msg=name)


@pytest.fixture(scope="module")
def whole():
    """The steps of the small task on one device, with the whole batch at once."""
    return two_steps(small_task(), small_batches(1)[0], 1)


CASES = [
    (kind, n, parts) for kind in ("pmap", "shard_map") for n, parts in ((1, 4), (2, 2), (4, 2))
]


@pytest.mark.parametrize(
    ("kind", "devices", "parts"), slow_but(CASES, [("pmap", 1, 4), ("shard_map", 4, 2)])
)
def test_parts_make_the_update_of_the_whole_batch(whole, kind, devices, parts):
    """Augmented with random numbers, with weights that are uneven over parts and devices."""
    state, record = two_steps(small_task(), small_batches(1)[0], parts, devices, kind)
    assert state.statistics["count"]["steps"] == 2 * parts  # one part after the other
    assert_close(
        (state.replace(statistics={}), record), (whole[0].replace(statistics={}), whole[1])
    )


def scenes():
    """Eight images with objects, two of which have none."""
    batch = test_two_stage.batch_of()
    batch = jax.tree.map(lambda x: np.concatenate([x, x[::-1]]), batch)
    return batch.replace(boxes=batch.boxes.astype(np.float32))


def square_scenes():
    batch = scenes()
    boxes = batch.boxes * np.float32([64 / 96, 1, 64 / 96, 1])
    extent = np.full_like(batch.extent, 64)
    return batch.replace(image=batch.image[:, :, :64], boxes=boxes, extent=extent)


def yolo():
    model = test_yolo.tiny("yolov2")
    detector = detectors.yolov2(model, anchors=[(10, 10)] * model.num_anchors)
    return detection(detector, Inputs((64, 64)), class_names=3)


def faces():
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda x: np.stack([x] * 8), test_landmarks.example_of())
    return batch.replace(
        image=rng.integers(0, 256, batch.image.shape, np.uint8),
        visible=rng.random(batch.visible.shape) < 0.6,
    )


def photographs():
    source = test_restoration.crops((60, 80))
    patches = test_restoration.RandomPatches(source, size=12, count=8)
    return test_restoration.batch_of(patches)


KINDS = {
    "classification": (
        lambda: test_classification.task_of("resnet20"),
        lambda: test_classification.batch_of(8),
    ),
    "detection": (yolo, square_scenes),
    "two stages": (test_two_stage.task_of, scenes),
    "landmarks": (test_landmarks.make, faces),
    "restoration": (lambda: test_restoration.task_of("noise"), photographs),
    "segmentation": (test_segmentation.make, lambda: test_segmentation.batch_of(8)),
    "all that a task may ask": (
        lambda: box_task(jnp.float64),
        lambda: box_batches(1, 8, dtype=np.float64)[0],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_parts_of_each_kind_of_task_make_the_update_of_the_whole_batch(name):
    """Without the statistics of batches. The weights of two stages follow from the outputs."""
    make_task, make_batch = KINDS[name]
    with jax.enable_x64():
        task, batch = make_task(), make_batch()
        if "batch_stats" in jax.eval_shape(task.init, jax.random.key(0)):
            task = with_frozen_statistics(task, ("*",))
    assert_close(two_steps(task, batch, 2, 2, "shard_map"), two_steps(task, batch, 1))


@pytest.mark.slow
def test_batch_norm_of_parts_does_not_depend_on_the_devices():
    """Part k has the examples whose index is k modulo the number of parts, wherever they are."""
    task, batch = image_task(blocks=1, widths=(4, 8)), image_batches(1)[0]
    alone = two_steps(task, batch, 2)
    assert_close(two_steps(task, batch, 2, 4), alone)
    # The statistics are those of the parts, and moved once a part.
    whole = two_steps(task, batch, 1)
    means = [x[0].statistics["batch_stats"]["bn1"]["mean"] for x in (alone, whole)]
    assert np.abs(means[0] - means[1]).max() > 0.1 * np.abs(means[1]).max()


def one_stage(family):
    size, classes = test_one_stage.FAMILIES[family][1], test_one_stage.CLASSES
    detector = test_one_stage.detector_of(family)
    return detection(detector, Inputs(size), class_names=classes)


LOSSES = {
    "classification": lambda: test_classification.task_of("resnet20"),
    "segmentation": test_segmentation.make,
    "yolov2": yolo,
    **{name: partial(one_stage, name) for name in ("retinanet", "fcos", "ssd")},
    "two stages": test_two_stage.task_of,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_weights_follow_from_the_targets_in_all_but_two_stages(name):
    """As docs/memory.md says: what is left of the network if the weights alone are wanted."""
    task = LOSSES[name]()
    batch = {
        "classification": lambda: test_classification.batch_of(2),
        "segmentation": lambda: test_segmentation.batch_of(2),
    }.get(name, scenes)()
    image = np.zeros((len(batch.mask), *task.inputs.shape), np.uint8)

    def weights(variables, batch):
        keys = jax.random.split(jax.random.key(0), len(batch.mask))
        batch = jax.vmap(task.prepare)(batch)
        how = {"keys": Keys(keys, keys[0]), "step": jnp.int32(0), "train": True}
        outputs, _ = task.forward(variables, batch, **how)
        terms = jax.vmap(lambda *x: task.loss(*x[:2], key=x[2], step=0))(outputs, batch, keys)
        return [weight for _, weight in terms.values()]

    variables = jax.eval_shape(task.init, jax.random.key(0))
    trace = jax.make_jaxpr(weights, axis_env=[(AXIS, 1)])
    program = trace(variables, batch.replace(image=image)).jaxpr
    _, used = dce_jaxpr(program, [True] * len(program.outvars))
    assert any(used[: len(jax.tree.leaves(variables))]) == (name == "two stages")


def of_outputs(outputs, example, *, key, step):
    weight = jax.nn.sigmoid(outputs["logits"][1])
    return {"of_outputs": (weight * outputs["logits"][0] ** 2, weight)}


def convolutions(task, accumulate):
    """(convolutions, all-reduces) in the compiled step of four devices."""
    parallel = Parallel("shard_map", jax.devices()[:4])
    update = make_update(task, OPTIMIZER, parallel=parallel, accumulate=accumulate)
    shapes = abstract_state(task, OPTIMIZER), image_batches(1)[0], seed_array(0)
    program = update.lower(*shapes).compile().as_text()
    return len(re.findall(r" convolution\(", program)), len(re.findall(r" all-reduce\(", program))


def test_the_network_runs_twice_only_where_the_weights_follow_from_its_outputs():
    task = image_task(blocks=1, widths=(4,))
    layers = sum(x.ndim == 4 for x in jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))))
    at_once, in_parts = convolutions(task, 1), convolutions(task, 2)
    assert in_parts[0] == at_once[0] > 2 * layers
    assert in_parts[1] - at_once[1] <= 1  # the weights' own, and those of no norm
    twice = convolutions(dataclasses.replace(task, loss=of_outputs), 2)
    assert twice[0] == at_once[0] + layers


def test_weights_that_follow_from_the_outputs_are_those_of_all_parts():
    """By hand: one parameter x at 1, the sum of w a x over that of w, where w = b x."""
    a, b = np.arange(1.0, 9), np.arange(8.0, 0, -1)
    task = dataclasses.replace(
        sized_task(),
        init=lambda key: {"params": {"x": jnp.ones(())}},
        forward=lambda variables, batch, **_: (batch.total[:, 0] * variables["params"]["x"], {}),
        loss=lambda outputs, example, **_: {
            "w": (outputs * example.weight, example.weight * outputs / example.total[0])
        },
    )
    mask = np.arange(8) != 7
    batch = WeightedBatch(a[:, None], b, mask)
    expected = (a * b)[:7].sum() / b[:7].sum()
    parallel = Parallel("pmap", jax.devices()[:2])
    with jax.enable_x64():
        update = make_update(task, optax.sgd(1.0), parallel=parallel, accumulate=2)
        state = parallel.replicate(in_float64(init_state(task, optax.sgd(1.0), 0)))
        state, record = update(state, parallel.shard(batch), seed_array(0))
    np.testing.assert_allclose(record["loss"], expected, rtol=1e-12)
    np.testing.assert_allclose(state.params["x"], 1 - expected, rtol=1e-12)


def keys_seen(accumulate):
    """What the keys of the devices and of the examples draw, in a step on one device."""

    def init(key):
        seen = {"device": jnp.zeros(accumulate, jnp.uint32), "example": jnp.zeros(8, jnp.uint32)}
        return {"params": {"x": jnp.zeros(())}, "seen": seen}

    def forward(variables, batch, *, keys, step, train):
        seen = variables["seen"]
        device = jnp.roll(seen["device"], 1).at[0].set(jax.random.bits(keys.device))
        index = batch.total[:, 0].astype(int)
        example = seen["example"].at[index].set(jax.vmap(jax.random.bits)(keys.example))
        outputs = variables["params"]["x"] * batch.total[:, 0]
        return outputs, {"seen": {"device": device, "example": example}}

    task = dataclasses.replace(sized_task(), init=init, forward=forward)
    batch = WeightedBatch(np.arange(8.0)[:, None], np.ones(8), np.ones(8, bool))
    state, _ = jax.device_get(
        make_update(task, OPTIMIZER, parallel=ALONE, accumulate=accumulate)(
            ALONE.replicate(init_state(task, OPTIMIZER, 0)), ALONE.shard(batch), seed_array(0)
        )
    )
    return state.statistics["seen"]


def test_examples_have_the_keys_of_the_whole_batch_and_dropout_one_of_each_part():
    whole, parts = keys_seen(1), keys_seen(4)
    np.testing.assert_array_equal(parts["example"], whole["example"])
    drawn = [*whole["example"], *whole["device"], *parts["device"]]
    assert len(set(map(int, drawn))) == 8 + 1 + 4


def test_a_batch_that_cannot_be_cut_is_an_error_before_anything_is_computed():
    message = r"batch size 8 is not divisible by the 12 parts of 4 devices, accumulate 3: use 12"
    data = {"train": Stream(small_batches(2)), "steps": 2, "seed": 0}
    with pytest.raises(InputError, match=message):
        fit(small_task(), OPTIMIZER, accumulate=3, **data)
    parallel = Parallel()
    update = make_update(small_task(), OPTIMIZER, parallel=parallel, accumulate=3)
    state = parallel.replicate(init_state(small_task(), OPTIMIZER, 0))
    with pytest.raises(InputError, match=message):
        update(state, parallel.shard(small_batches(1)[0]), seed_array(0))
    with pytest.raises(OptionError, match="accumulate is 0: give at least 1"):
        fit(small_task(), OPTIMIZER, accumulate=0, **data)


def test_a_run_resumes_only_with_as_many_parts(tmp_path):
    data = {"steps": 2, "seed": 0, "workdir": tmp_path, "eval_every": 1, "log": lambda line: None}

    def train(**options):
        stream = Stream(small_batches(2))
        return fit(small_task(), OPTIMIZER, train=stream, **data, **options)

    train(accumulate=2)
    assert read_run(tmp_path)["fit"]["accumulate"] == 2
    with pytest.raises(InputError, match=r"fit.accumulate: 2 -> \(absent\)"):
        train()
