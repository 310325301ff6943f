"""The training step: the same on any number of devices, by pmap and by shard_map."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxvision.cli.config import default_config
from jaxvision.core import ClassificationBatch, InputError, Task
from jaxvision.engine import (
    Optimizer,
    Parallel,
    init_state,
    make_evaluate,
    make_update,
)
from jaxvision.engine.evaluate import measured
from jaxvision.tasks import classification
from tests.engine.box_task import box_batches, box_task


@flax.struct.dataclass
class WeightedBatch:
    total: jax.Array
    weight: jax.Array
    mask: jax.Array


def sgd(rate):
    return Optimizer(optax.with_extra_args_support(optax.sgd(rate, momentum=0.9)), lambda _: rate)


def train(task, batches, devices, kind="pmap", rate=0.05, dtype=None):
    """Losses of every step, and the state after the last."""
    parallel = Parallel(kind, jax.devices()[:devices])
    optimizer = sgd(rate)
    update = make_update(task, optimizer, seed=3, parallel=parallel)
    state = init_state(task, optimizer, 3)
    if dtype is not None:
        state = jax.tree.map(
            lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
        )
    state = parallel.replicate(state)
    losses = []
    for batch in batches:
        state, record = update(state, parallel.shard(batch))
        losses.append(float(record["loss"]))
    return np.array(losses), jax.device_get(state)


def digits_task(**changes):
    config = default_config()
    config.update(changes)
    config.augment.padding, config.augment.degrees, config.augment.flip = 2, 10.0, True
    config.data.image_size = 16
    return classification(config)


def image_batches(count, size=16):
    """Images with example weights that are uneven over the devices."""
    rng = np.random.default_rng(1)
    return [
        ClassificationBatch(
            image=rng.integers(0, 256, (size, 16, 16, 1), np.uint8),
            label=rng.integers(0, 10, size).astype(np.int32),
            weight=np.linspace(0.1, 3, size).astype(np.float32) ** 2,
            mask=np.ones(size, bool),
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def resnet_losses():
    """A narrow ResNet with batch norm and augmentation, 20 steps on one device.

    In float64: in float32 rounding now and then moves a ReLU's input across 0, and training on
    noise makes a hundred times more of each such step before the end. The images are float32.
    """
    task = digits_task(model=ConfigDict({"name": "resnet20", "blocks": 1, "widths": (4, 8, 8)}))
    batches = image_batches(20)
    with jax.enable_x64():
        return task, batches, *train(task, batches, 1, dtype=jnp.float64)


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        pytest.param(2, "pmap", marks=pytest.mark.slow),
        (4, "pmap"),
        *(pytest.param(count, "shard_map", marks=pytest.mark.slow) for count in (1, 4)),
    ],
)
def test_losses_do_not_depend_on_the_devices(resnet_losses, devices, kind):
    task, batches, expected, _ = resnet_losses
    with jax.enable_x64():
        losses, _ = train(task, batches, devices, kind, dtype=jnp.float64)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert len(set(losses)) == 20


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "kind"), [(2, "pmap"), (4, "pmap"), (4, "shard_map")])
def test_box_task_losses_do_not_depend_on_the_devices(devices, kind):
    """Masks, soft targets, key, step, picker and partners all get through the engine."""
    with jax.enable_x64():
        task = box_task(jnp.float64)
        batches = box_batches(20, 8, dtype=np.float64)
        expected, expected_state = train(task, batches, 1)
        losses, state = train(task, batches, devices, kind)
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(expected_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-9)


def test_gradient_under_uneven_weights_is_that_of_one_device():
    """Of each term apart: one weighted mean over all examples, not a mean of devices' means."""
    task = box_task()
    batch = box_batches(1, 8)[0]
    assert (batch.box_mask.reshape(4, -1).sum(1) == [6, 4, 2, 0]).all(), "should be uneven"
    plain = dataclasses.replace(task, augment=lambda key, example: example)
    state = init_state(plain, sgd(1.0), 0)

    def mean_loss(params, parallel):
        """What the loss terms are after one update with these parameters."""
        update = make_update(plain, sgd(1.0), seed=0, parallel=parallel)
        given = parallel.replicate(state.replace(params=params))
        after, record = update(given, parallel.shard(batch))
        return jax.device_get(after.params), record

    one, record_one = mean_loss(state.params, Parallel("pmap", jax.devices()[:1]))
    four, record_four = mean_loss(state.params, Parallel("pmap", jax.devices()))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    for name in ("box", "objectness", "prior", "loss", "score"):
        np.testing.assert_allclose(record_one[name], record_four[name], rtol=1e-5)


def test_weighted_mean_of_uneven_shards_by_hand():
    """Totals 1..8 with weights 8..1: the answer is their quotient, on any number of devices."""
    totals, weights = np.arange(1.0, 9), np.arange(8.0, 0, -1)

    def loss(outputs, example, *, key, step):
        return {"w": (outputs * example.total, example.weight)}

    task = Task(
        init=lambda key: {"params": {"w": jnp.ones(())}},
        augment=lambda key, example: example,
        prepare=lambda example: example,
        forward=lambda variables, batch, *, keys, step, train: (
            jnp.broadcast_to(variables["params"]["w"], batch.total.shape),
            {},
        ),
        loss=loss,
        metrics=lambda outputs, example: {},
        decode=lambda outputs: outputs,
    )
    mask = np.arange(8) != 7  # and one is filler
    batch = WeightedBatch(totals.astype("f4"), weights.astype("f4"), mask)
    expected = totals[:7].sum() / weights[:7].sum()
    for kind in ("pmap", "shard_map"):
        parallel = Parallel(kind)
        update = make_update(task, sgd(1.0), seed=0, parallel=parallel)
        state, record = update(
            parallel.replicate(init_state(task, sgd(1.0), 0)), parallel.shard(batch)
        )
        np.testing.assert_allclose(record["loss"], expected, rtol=1e-6)
        np.testing.assert_allclose(record["gradient_norm"], expected, rtol=1e-6)
        np.testing.assert_allclose(state.params["w"], 1 - expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_evaluation_counts_each_real_example_once(kind):
    task = box_task()
    parallel = Parallel(kind)
    state = parallel.replicate(init_state(task, sgd(1.0), 0))
    evaluate = make_evaluate(task, parallel=parallel)
    full = [batch.replace(partners=None) for batch in box_batches(2, 8)]
    expected = evaluate(state, full).metrics
    junk = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x)]), full[1])
    filled = [
        jax.tree.map(lambda x: x[:4], full[0]),
        jax.tree.map(lambda x: x[4:], full[0]),
        junk.replace(mask=np.arange(16) < 8),
    ]
    assert evaluate(state, filled).metrics == pytest.approx(expected, rel=1e-6)
    single = Parallel(kind, jax.devices()[:1])
    alone = make_evaluate(task, parallel=single)(single.replicate(jax.device_get(state)), full)
    assert alone.metrics == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_what_a_task_collects_is_there_once_and_in_order(kind):
    def collect(outputs, example):
        return {"labels": example.labels, "mean": outputs["cells"].mean(), "nothing": None}

    def summarize(collected):
        return {"images": float(len(collected["labels"]))}

    task = dataclasses.replace(box_task(), collect=collect, summarize=summarize)
    parallel = Parallel(kind)
    state = parallel.replicate(init_state(task, sgd(1.0), 0))
    full = [batch.replace(partners=None) for batch in box_batches(2, 8)]
    holed = jax.tree.map(np.copy, full[1])
    holed.mask[[2, 7]] = False  # on different devices
    found = make_evaluate(task, parallel=parallel)(state, [full[0], holed])
    assert found.metrics["images"] == 14
    assert found.collected["nothing"] is None
    expected = np.concatenate([full[0].labels, full[1].labels[[0, 1, 3, 4, 5, 6]]])
    np.testing.assert_array_equal(found.collected["labels"], expected)
    alone = Parallel(kind, jax.devices()[:1])
    state = alone.replicate(jax.device_get(state))
    again = make_evaluate(task, parallel=alone)(state, [full[0], holed])
    np.testing.assert_allclose(again.collected["mean"], found.collected["mean"], rtol=1e-5)
    assert measured(task, jax.eval_shape(lambda: state), full[0]) == ["score", "images"]


def test_a_metric_and_a_number_of_the_summary_may_not_share_a_name():
    task = dataclasses.replace(
        box_task(), collect=lambda outputs, example: (), summarize=lambda collected: {"score": 1.0}
    )
    parallel = Parallel()
    state = parallel.replicate(init_state(task, sgd(1.0), 0))
    with pytest.raises(ValueError, match="registered twice: score"):
        make_evaluate(task, parallel=parallel)(state, box_batches(1, 8))


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_the_step_is_compiled_once_for_each_form_of_batch(kind):
    parallel, optimizer = Parallel(kind), sgd(0.1)
    task = sized_task()
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    for number, size in enumerate([4, 6, 4, 6, 6, 8, 4], start=1):
        batch = WeightedBatch(
            total=np.ones((8, size), "f4"), weight=np.ones(8, "f4"), mask=np.ones(8, bool)
        )
        state, _ = update(state, parallel.shard(batch))
        assert update.compilations == [1, 2, 2, 2, 2, 3, 3][number - 1]


def sized_task():
    """One number, drawn to the mean of whatever a batch holds."""
    return Task(
        init=lambda key: {"params": {"x": jnp.zeros(())}},
        augment=lambda key, example: example,
        prepare=lambda example: example,
        forward=lambda variables, batch, **_: (batch.total.mean(1) - variables["params"]["x"], {}),
        loss=lambda outputs, example, **_: {"square": (outputs**2, example.weight)},
        metrics=lambda outputs, example: {},
        decode=lambda outputs: outputs,
    )


def test_a_metric_with_an_entry_for_each_class_is_divided_over_the_whole_data():
    """In evaluation and in the record of training: not a mean of ratios of batches or devices."""
    task = box_task()

    def overlap(outputs, example):
        seen = jnp.zeros(3).at[example.labels].add(example.box_mask)
        return {"overlap": (seen * jnp.arange(1.0, 4.0), seen)}

    task = dataclasses.replace(task, metrics=overlap)
    batches = box_batches(2, 8)
    for batch in batches:
        batch.labels[0, 0] = 2 * batch.box_mask[0, 0]
    parallel = Parallel()
    state = parallel.replicate(init_state(task, sgd(1.0), 0))
    plain = [batch.replace(partners=None) for batch in batches]
    found = make_evaluate(task, parallel=parallel)(state, plain)
    assert found.metrics == {"overlap": pytest.approx(2.0)}
    update = make_update(task, sgd(1.0), seed=0, parallel=parallel)
    _, record = update(state, parallel.shard(batches[0]))
    assert record["overlap"] == pytest.approx(2.0)


def test_a_loss_term_must_be_one_number():
    task = dataclasses.replace(
        box_task(), loss=lambda outputs, example, *, key, step: {"box": (jnp.ones(2), jnp.ones(2))}
    )
    with pytest.raises(AssertionError, match="rank"):
        train(task, box_batches(1, 8), 1)


@pytest.mark.parametrize(("size", "advice"), [(6, "4 or 8"), (3, "4"), (0, "4"), (-4, "4")])
def test_batch_size_that_does_not_divide_names_the_next_ones(size, advice):
    with pytest.raises(InputError, match=rf"batch size {size} .* 4 devices: use {advice}$"):
        Parallel().check_batch_size(size)


def test_unknown_kind_of_parallelism():
    with pytest.raises(InputError, match="is 'pmapp': choose one of pmap"):
        Parallel("pmapp")


def test_no_boxes_at_all_can_be_padded_to():
    """Padding to zero boxes: arrays without elements are cut like any other."""
    empty = Parallel().shard(np.zeros((8, 0, 4), np.float32))
    assert empty.shape == (4, 2, 0, 4)


def test_a_metric_with_the_name_of_a_loss_term_is_refused():
    task = box_task()
    clash = dataclasses.replace(task, metrics=lambda outputs, example: {"box": (1.0, 1.0)})
    with pytest.raises(ValueError, match="registered twice: box"):
        train(clash, box_batches(1, 8), 1)


def test_streams_of_keys_differ():
    """What the picker, the loss, dropout and augmentation draw has nothing in common."""
    task, seen = box_task(), {}

    def augment(key, example):
        return example.replace(crowd=jax.random.key_data(key))

    def forward(variables, batch, *, keys, step, train):
        seen["device"] = keys.device
        outputs = {"example": jax.random.key_data(keys.example), "augment": batch.crowd}
        device = jnp.broadcast_to(jax.random.key_data(keys.device), outputs["example"].shape)
        return {**outputs, "device": device, "w": variables["params"]["w"] * batch.mask}, {}

    def loss(outputs, example, *, key, step):
        return {"w": (outputs["w"], 1.0)}

    def metrics(outputs, example):
        names = ("example", "augment", "device")
        return {f"{n}{i}": (outputs[n][i] % 65536, 1.0) for n in names for i in range(2)}

    tiny = Task(
        lambda key: {"params": {"w": jnp.ones(())}}, augment, task.prepare, forward, loss, metrics,
        task.decode,
    )  # fmt: skip
    parallel = Parallel()
    update = make_update(tiny, sgd(0.0), seed=0, parallel=parallel)
    state, drawn = parallel.replicate(init_state(tiny, sgd(0.0), 0)), []
    for batch in box_batches(3, 4):
        state, record = update(state, parallel.shard(batch))
        drawn += [
            (float(record[f"{n}0"]), float(record[f"{n}1"]))
            for n in ("example", "augment", "device")
        ]
    assert len(set(drawn)) == 9
