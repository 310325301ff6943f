"""The training step: the same on any number of devices, by pmap and by shard_map."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import DatasetMetric, ImageBatch, InputError, OptionError, Summary, Task
from jaxvision.engine import (
    Parallel,
    Phase,
    evaluate,
    init_state,
    make_evaluate,
    make_update,
    metric_names,
    train_steps,
)
from tests.engine.box_task import box_batches, box_task
from tests.engine.image_task import image_batches, image_task
from tests.engine.sized_task import WeightedBatch, sized_task
from tests.engine.small_task import small_batches, small_task
from tests.marks import long_but, slow_but

KINDS = ["pmap", "shard_map"]


def sgd(rate):
    return Phase(optax.sgd(rate, momentum=0.9), schedule=lambda step: rate)


def train(task, batches, devices, kind="pmap", rate=0.05, dtype=None):
    """Each number of the records of all steps, and the state after the last."""
    parallel = Parallel(kind, jax.devices()[:devices])
    optimizer = sgd(rate)
    update = make_update(task, optimizer, parallel=parallel)
    state = init_state(task, optimizer, 3)
    if dtype is not None:
        state = jax.tree.map(
            lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
        )
    state = parallel.replicate(state)
    records = []
    for batch in batches:
        state, record = update(state, parallel.shard(batch), 3)
        records.append(jax.device_get(record))
    return jax.tree.map(lambda *x: np.array(x), *records), jax.device_get(state)


@pytest.fixture(scope="module")
def resnet_records():
    """A narrow ResNet with batch norm and augmentation, 20 steps on one device.

    In float64: in float32 rounding now and then moves a ReLU's input across 0, and training on
    noise makes a hundred times more of each such step before the end. The images are float32.
    """
    task = image_task(blocks=1, widths=(4, 8, 8))
    batches = image_batches(20)
    with jax.enable_x64():
        return task, batches, *train(task, batches, 1, dtype=jnp.float64)


@pytest.mark.parametrize(
    ("devices", "kind"),
    long_but(
        [(2, "pmap"), (4, "pmap"), (1, "shard_map"), (4, "shard_map")],
        quick=[],
        slow=[(2, "pmap"), (4, "shard_map")],
    ),
)
def test_losses_do_not_depend_on_the_devices(resnet_records, devices, kind):
    task, batches, expected, _ = resnet_records
    with jax.enable_x64():
        records, _ = train(task, batches, devices, kind, dtype=jnp.float64)
    np.testing.assert_allclose(records["loss"], expected["loss"], rtol=1e-6)
    assert len(set(records["loss"])) == 20


@pytest.fixture(scope="module")
def box_records():
    """The box task, 20 steps on one device: (batches, records, state)."""
    with jax.enable_x64():
        batches = box_batches(20, 8, dtype=np.float64)
        return batches, *train(box_task(jnp.float64), batches, 1)


@pytest.mark.parametrize(
    ("devices", "kind"), slow_but([(2, "pmap"), (4, "pmap"), (4, "shard_map")], [])
)
def test_box_task_losses_do_not_depend_on_the_devices(box_records, devices, kind):
    """Masks, soft targets, key, step, picker and partners all get through the engine.

    Weights are uneven over the devices: of each term apart it is one weighted mean over all
    examples, not a mean of devices' means, and so is its gradient.
    """
    batches, expected, expected_state = box_records
    uneven = batches[0].box_mask.reshape(4, -1).sum(1)
    assert (uneven == [6, 4, 2, 0]).all()
    with jax.enable_x64():
        records, state = train(box_task(jnp.float64), batches, devices, kind)
    assert {"box", "objectness", "prior", "loss", "score"} < records.keys()
    for name, values in records.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-9, err_msg=name)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(expected_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-9)


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
        decode=lambda outputs, example: outputs,
    )
    mask = np.arange(8) != 7  # and one is filler
    batch = WeightedBatch(totals.astype("f4"), weights.astype("f4"), mask)
    mean = totals[:7].sum() / weights[:7].sum()
    # A weight that counts positives: without any the divisor is 1, of the whole batch.
    without_positives = batch.replace(weight=np.zeros(8, "f4")), totals[:7].sum()
    for kind in ("pmap", "shard_map"):
        parallel = Parallel(kind)
        update = make_update(task, sgd(1.0), parallel=parallel)
        for given, expected in ((batch, mean), without_positives):
            state = parallel.replicate(init_state(task, sgd(1.0), 0))
            state, record = update(state, parallel.shard(given), 0)
            np.testing.assert_allclose(record["loss"], expected, rtol=1e-6)
            np.testing.assert_allclose(record["gradient_norm"], expected, rtol=1e-6)
            np.testing.assert_allclose(state.params["w"], 1 - expected, rtol=1e-5)


@pytest.fixture(scope="module")
def variables():
    """Those of the box task, on the host."""
    return jax.device_get(init_state(box_task(), sgd(1.0), 0).variables)


@pytest.mark.parametrize("kind", slow_but(KINDS, ["shard_map"]))
def test_evaluation_counts_each_real_example_once(variables, kind):
    task = box_task()
    parallel = Parallel(kind)
    replicated = parallel.replicate(variables)
    measure = make_evaluate(task, parallel=parallel, log=print)
    full = [batch.replace(partners=None) for batch in box_batches(2, 8)]
    expected = measure(replicated, full).metrics
    halves = [jax.tree.map(lambda x, k=k: x[k : k + 4], full[0]) for k in (0, 4)]
    filled = [
        jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x)]), half) for half in halves
    ]
    filled = [*(batch.replace(mask=np.arange(8) < 4) for batch in filled), full[1]]
    assert measure(replicated, filled).metrics == pytest.approx(expected, rel=1e-6)
    single = Parallel(kind, jax.devices()[:1])
    alone = evaluate(task, variables, full, parallel=single)
    assert alone.metrics == pytest.approx(expected, rel=1e-6)
    assert (alone.tables, alone.collected) == ({}, None)


def test_evaluation_fills_batches_that_the_devices_do_not_divide(variables):
    task = box_task()
    full = [batch.replace(partners=None) for batch in box_batches(2, 8)]
    expected = evaluate(task, variables, full)
    cut = [jax.tree.map(lambda x, n=n: x[n : n + 3], full[0]) for n in (0, 3)]
    cut += [jax.tree.map(lambda x: x[6:], full[0]), full[1]]
    assert evaluate(task, variables, cut).metrics == pytest.approx(expected.metrics, 1e-6)


class Targets(list):
    """Batches with the records of their examples, as an EvalLoader is."""

    def __init__(self, batches, records):
        super().__init__(batches)
        self.records, self.asked = records, 0

    def targets(self):
        self.asked += 1
        return self.records


def collecting(names=("images", "boxes"), calls=None):
    """The box task with a metric over all examples, which counts."""

    def collect(outputs, example):
        return {"labels": example.labels, "mean": outputs["cells"].mean(), "nothing": None}

    def summarize(collected, records):
        if calls is not None:
            calls.append(records)
        boxes = sum(record["boxes"] for record in records)
        numbers = {"images": float(len(collected["labels"])), "boxes": float(boxes)}
        return Summary(numbers, {"means": collected["mean"]})

    return dataclasses.replace(box_task(), dataset_metric=DatasetMetric(names, collect, summarize))


@pytest.mark.parametrize("kind", slow_but(KINDS, ["pmap"]))
def test_what_a_task_collects_is_there_once_and_in_order(variables, kind):
    calls = []
    task = collecting(calls=calls)
    full = [batch.replace(partners=None) for batch in box_batches(2, 8)]
    holed = jax.tree.map(np.copy, full[1])
    holed.mask[[2, 7]] = False  # on different devices
    data = Targets([full[0], holed], [{"boxes": n} for n in range(14)])
    found = evaluate(task, variables, data, parallel=Parallel(kind))
    assert found.metrics == {"score": found.metrics["score"], "images": 14, "boxes": 91}
    assert found.collected["nothing"] is None
    expected = np.concatenate([full[0].labels, full[1].labels[[0, 1, 3, 4, 5, 6]]])
    np.testing.assert_array_equal(found.collected["labels"], expected)
    np.testing.assert_array_equal(found.tables["means"], found.collected["mean"])
    assert calls == [data.records], "once"
    alone = Parallel(kind, jax.devices()[:1])
    again = evaluate(task, variables, data, parallel=alone)
    np.testing.assert_allclose(again.collected["mean"], found.collected["mean"], rtol=1e-5)
    names = metric_names(task, variables, full[0])
    assert names == ["score", "images", "boxes"]


def test_what_is_collected_is_reduced_batch_by_batch(variables):
    """On the host, without filler; the results are put together, also ragged ones as objects."""
    sizes = []

    def reduce(collected):
        sizes.append(len(collected["labels"]))
        ragged = np.empty(sizes[-1], object)
        ragged[:] = [labels[labels > 0] for labels in collected["labels"]]
        return {"labels": ragged}

    def summarize(collected, records):
        assert len(collected["labels"]) == len(records)
        return Summary({"ones": float(sum(map(len, collected["labels"])))}, {})

    task = collecting()
    metric = dataclasses.replace(
        task.dataset_metric, names=("ones",), reduce=reduce, summarize=summarize
    )
    batches = [batch.replace(partners=None) for batch in box_batches(3, 8)]
    batches[1].mask[5:] = False
    labels = np.concatenate([batch.labels[batch.mask] for batch in batches])
    data = Targets(batches, [{}] * len(labels))
    found = evaluate(dataclasses.replace(task, dataset_metric=metric), variables, data)
    assert sizes == [8, 5, 8]
    assert found.metrics["ones"] == (labels > 0).sum() > 0
    for one, other in zip(found.collected["labels"], labels, strict=True):
        np.testing.assert_array_equal(one, other[other > 0])


def test_records_that_a_metric_cannot_use_are_an_error_before_anything_is_computed(variables):
    def check(records):
        if not all("boxes" in record for record in records):
            raise InputError("a record has no boxes: give them")

    task = collecting()
    metric = dataclasses.replace(task.dataset_metric, check=check)
    task = dataclasses.replace(task, dataset_metric=metric)

    class Unread(Targets):
        def __iter__(self):
            raise AssertionError("nothing is to be read")

    with pytest.raises(InputError, match="a record has no boxes"):
        evaluate(task, variables, Unread([], [{"boxes": 1}, {}]))
    with pytest.raises(AssertionError, match="nothing is to be read"):
        evaluate(task, variables, Unread([], [{"boxes": 1}]))


def test_a_metric_over_all_examples_needs_their_records(variables):
    task = collecting()
    batches = [batch.replace(partners=None) for batch in box_batches(1, 8)]
    with pytest.raises(InputError, match=r"measures images, boxes .* with a method targets\(\)"):
        evaluate(task, variables, batches)
    few = Targets(batches, [{"boxes": 1}] * 7)
    with pytest.raises(InputError, match=r"gave 8 examples, and their targets\(\) has 7 records"):
        evaluate(task, variables, few)


def test_a_metric_gives_at_least_the_numbers_that_it_names(variables):
    batches = [batch.replace(partners=None) for batch in box_batches(1, 8)]
    data = Targets(batches, [{"boxes": 1}] * 8)
    more = evaluate(collecting(("images",)), variables, data).metrics
    assert {"images", "boxes"} <= more.keys()
    message = r"gave \['boxes', 'images'\], without \['score'\] of its names"
    with pytest.raises(ValueError, match=message):
        evaluate(collecting(("images", "boxes", "score")), variables, data)


def test_a_metric_and_a_number_of_the_summary_may_not_share_a_name(variables):
    task = collecting(("images", "boxes", "score"))
    with pytest.raises(ValueError, match="registered twice: score"):
        metric_names(task, variables, box_batches(1, 8)[0])


@pytest.mark.parametrize("kind", slow_but(KINDS, ["pmap"]))
def test_the_step_is_compiled_once_for_each_form_of_batch(kind):
    parallel, optimizer = Parallel(kind), sgd(0.1)
    task = sized_task()
    update = make_update(task, optimizer, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    for number, size in enumerate([4, 6, 4, 6, 6, 8, 4], start=1):
        batch = WeightedBatch(
            total=np.ones((8, size), "f4"), weight=np.ones(8, "f4"), mask=np.ones(8, bool)
        )
        state, _ = update(state, parallel.shard(batch), number)
        assert update.compilations == [1, 2, 2, 2, 2, 3, 3][number - 1]


@pytest.mark.parametrize("kind", slow_but(KINDS, ["shard_map"]))
def test_an_unexpected_compilation_is_a_warning_with_the_shapes_that_caused_it(kind, caplog):
    """One for each size of images is expected; another batch size or dtype is not."""
    parallel, log = Parallel(kind, jax.devices()[:1]), []
    mean = parallel.map(lambda state, batch: state + batch.image.mean(dtype="float32"))
    call = mean.reporting("the mean", log.append)

    def run(*shape, dtype=np.uint8):
        caplog.clear()
        batch = image_batch_of(np.zeros((*shape, 3), dtype))
        call(parallel.replicate(np.float32(0)), parallel.shard(batch))
        return [record.message for record in caplog.records]

    assert run(2, 4, 6) == []
    assert run(2, 6, 4) == run(2, 4, 6) == []
    (message,) = run(3, 4, 6)
    assert message.startswith("the mean for images of 6 x 4 was compiled again: ")
    assert re.search(r"batch/image was uint8\[.*2, 4, 6, 3\] and is uint8\[.*3, 4, 6, 3\]", message)
    assert "batch/mask was bool" in message
    (message,) = run(3, 4, 6, dtype=np.float32)
    assert re.search(r": batch/image was uint8\[.*\] and is float32\[[\d, ]*\]$", message)
    assert run(2, 4, 6) == []
    assert mean.compilations == len(log) == 4
    assert all(re.fullmatch(r"compiled the mean for images of . x . in \d.* s", x) for x in log)


def image_batch_of(images):
    """Images without filler, that were not resized."""
    size = np.tile(np.int32(images.shape[1:3]), (len(images), 1))
    return ImageBatch(
        image=images,
        mask=np.ones(len(images), bool),
        extent=size,
        placement=np.tile(np.float32([1, 1, 0, 0]), (len(images), 1)),
        size=size,
    )


def test_what_changes_the_batch_sees_the_variables_before_the_step_and_takes_no_gradient():
    plain, batches = small_task(), small_batches(3)

    def shifted(scale):
        def perturb(variables, batch, *, keys, step):
            assert keys.example.shape == batch.mask.shape
            bias = variables["params"]["head"]["bias"].sum()
            shift = scale * (bias + step + variables["count"]["steps"])
            return batch.replace(total=batch.total + shift)

        return dataclasses.replace(plain, perturb=perturb)

    records, state = train(plain, batches, 2)
    for task, same in ((shifted(0.0), True), (shifted(0.1), False)):
        others, other = train(task, batches, 2)
        assert (others["loss"] == records["loss"]).all() == same
        if same:
            jax.tree.map(np.testing.assert_array_equal, other, state)

    # By hand: the shifted batch is given.
    variables = plain.init(None)
    shift = 0.1 * float(variables["params"]["head"]["bias"].sum())
    given = batches[0].replace(total=batches[0].total + np.float32(shift))
    expected, after = train(plain, [given], 1)
    found, before = train(shifted(0.1), batches[:1], 1)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), before, after)


@pytest.mark.parametrize("kind", slow_but(KINDS, ["pmap"]))
def test_the_seed_is_an_input_of_the_step(kind):
    """Another seed draws other numbers and compiles nothing; the same seed draws the same."""
    parallel, task = Parallel(kind), small_task()
    update = make_update(task, sgd(0.1), parallel=parallel)
    batch, first = small_batches(1)[0], jax.device_get(init_state(task, sgd(0.1), 0))

    def loss(seed):
        [(_, _, record, _)] = train_steps(
            update,
            parallel.replicate(first),
            iter([batch, batch]),
            seed=seed,
            parallel=parallel,
            stop=1,
        )
        return float(record["loss"])

    losses = [loss(seed) for seed in (0, 1, 0, 2**31, -1)]
    assert losses[0] == losses[2]
    assert len(set(losses)) == 4
    assert update.compilations == 1


def test_a_metric_with_an_entry_for_each_class_is_divided_over_the_whole_data():
    """In evaluation and in the record of training: not a mean of ratios of batches or devices."""

    def overlap(outputs, example):
        seen = jax.nn.one_hot(example.total[0].astype(int), 3)
        return {"overlap": (seen * jnp.arange(1.0, 4.0), seen)}

    task = dataclasses.replace(sized_task(), metrics=overlap)
    labels = np.float32([2, 0, 1, 0, 1, 1, 0, 0])  # one class is on one device alone
    batch = WeightedBatch(labels[:, None], np.ones(8, "f4"), np.ones(8, bool))
    parallel = Parallel()
    state = parallel.replicate(init_state(task, sgd(1.0), 0))
    others = batch.replace(total=batch.total % 2)
    found = evaluate(task, state.variables, [batch, others], parallel=parallel)
    assert found.metrics == {"overlap": pytest.approx(2.0)}
    update = make_update(task, sgd(1.0), parallel=parallel)
    _, record = update(state, parallel.shard(batch), 0)
    assert record["overlap"] == pytest.approx(2.0)


def test_a_loss_term_must_be_one_number():
    task = dataclasses.replace(
        small_task(),
        loss=lambda outputs, example, *, key, step: {"box": (jnp.ones(2), jnp.ones(2))},
    )
    with pytest.raises(AssertionError, match="rank"):
        train(task, small_batches(1), 1)


@pytest.mark.parametrize(("size", "advice"), [(6, "4 or 8"), (3, "4"), (0, "4"), (-4, "4")])
def test_batch_size_that_does_not_divide_names_the_next_ones(size, advice):
    with pytest.raises(InputError, match=rf"batch size {size} .* 4 devices: use {advice}$"):
        Parallel().check_batch_size(size)


def test_unknown_kind_of_parallelism():
    with pytest.raises(OptionError, match="is 'pmapp': choose one of pmap"):
        Parallel("pmapp")


def test_no_boxes_at_all_can_be_padded_to():
    """Padding to zero boxes: arrays without elements are cut like any other."""
    empty = Parallel().shard(np.zeros((8, 0, 4), np.float32))
    assert empty.shape == (4, 2, 0, 4)


def test_a_metric_with_the_name_of_a_loss_term_is_refused():
    task = small_task()
    clash = dataclasses.replace(task, metrics=lambda outputs, example: {"square": (1.0, 1.0)})
    with pytest.raises(ValueError, match="registered twice: square"):
        train(clash, small_batches(1), 1)


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
    update = make_update(tiny, sgd(0.0), parallel=parallel)
    state, drawn = parallel.replicate(init_state(tiny, sgd(0.0), 0)), []
    for batch in box_batches(3, 4):
        state, record = update(state, parallel.shard(batch), 0)
        drawn += [
            (float(record[f"{n}0"]), float(record[f"{n}1"]))
            for n in ("example", "augment", "device")
        ]
    assert len(set(drawn)) == 9


def test_an_optimizer_that_looks_at_the_loss_gets_it():
    seen = []

    def look(updates, state, params, *, value, **extra):
        jax.debug.callback(lambda x: seen.append(float(x)), value)
        return updates, state

    looking = optax.GradientTransformationExtraArgs(lambda params: (), look)
    task, optimizer = small_task(), optax.chain(optax.sgd(0.1), looking)
    parallel = Parallel("pmap", jax.devices()[:1])
    update = make_update(task, optimizer, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    _, record = update(state, parallel.shard(small_batches(1)[0]), 0)
    jax.effects_barrier()
    assert seen == [float(record["loss"])]
    assert "learning_rate" not in record
