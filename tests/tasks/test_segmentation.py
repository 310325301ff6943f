"""The segmentation task: losses, metrics, what is found, description."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics

from jaxvision import augment as aug
from jaxvision.core import InputError, Inputs, OptionError, SegmentationBatch
from jaxvision.data import ToSegmentation
from jaxvision.losses import (
    dice_loss,
    pixel_binary_cross_entropy,
    pixel_cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from jaxvision.models import create_model
from jaxvision.predict import predict
from jaxvision.tasks import (
    RESTORE,
    binary_segmentation_loss,
    segmentation,
    segmentation_loss,
    with_frozen_statistics,
)
from tests.marks import slow_but
from tests.models.variables import random_values
from tests.tasks.loop import as_json, evaluate, train, with_filler

SIZE = 16
INPUTS = Inputs((SIZE, SIZE))
NAMES = ("nothing", "cat", "dog")


def make(classes=3, *augment, channels=None, fields=(), inputs=INPUTS, **options):
    fields = {"widths": (4, 8), **dict(fields)}
    model = create_model("unet", num_classes=channels or classes, **fields)
    return segmentation(model, inputs, class_names=NAMES[:classes], augment=augment, **options)


BACKBONE = {"name": "plain_darknet", "stages": ((1, ((4, 3),)), (2, ((4, 3),)))}


def make_with_aux(**options):
    model = create_model("unet_backbone", num_classes=3, backbone=BACKBONE, widths=(4,), aux=True)
    return segmentation(model, INPUTS, class_names=NAMES, **options)


def of_library(**options):
    return functools.partial(segmentation_loss, **options)


def batch_of(size=4, classes=3, seed=0, **changes):
    """Images in which the colour says the class, with some pixels that do not count."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (size, 4, 4))
    labels = np.repeat(np.repeat(coarse, SIZE // 4, 1), SIZE // 4, 2).astype(np.uint8)
    image = np.repeat((100 * labels)[..., None], 3, axis=-1)
    labels[:, 0, :3] = 255
    fields = {"image": image, "labels": labels, "mask": np.ones(size, bool)}
    return SegmentationBatch(**{**fields, **changes})


task_of = functools.cache(make)


def outputs_of(logits):
    return {"logits": jnp.asarray(logits, jnp.float32)}


def logits_of(channels, seed=1):
    return np.random.default_rng(seed).normal(size=(SIZE, SIZE, channels)).astype(np.float32)


def loss_of(task, logits, example):
    return jax.jit(functools.partial(task.loss, key=None, step=0))(outputs_of(logits), example)


def test_the_losses_are_those_of_the_library_with_their_factors():
    example = jax.tree.map(lambda x: x[0], batch_of())
    labels, logits = example.labels, logits_of(3)
    weights = (0.5, 1.0, 2.0)
    loss = of_library(
        cross_entropy=0.5, dice=2.0, focal=3.0, gamma=1.5, class_weights=weights, smooth=0.1
    )
    task = make(loss=loss)
    terms = loss_of(task, logits, example)

    @jax.jit
    def of_losses(logits, labels):
        counted, targets = labels != 255, jax.nn.one_hot(labels, 3)
        named = jnp.where(counted, labels, 0)
        return {
            "cross_entropy": pixel_cross_entropy(logits, labels, class_weights=weights),
            "dice_loss": dice_loss(jax.nn.softmax(logits), targets, counted, smooth=0.1),
            "focal_loss": softmax_focal_loss(logits, named, counted, alpha=weights, gamma=1.5),
        }

    factors = {"cross_entropy": 0.5, "dice_loss": 2, "focal_loss": 3}
    for name, (total, weight) in of_losses(logits, labels).items():
        np.testing.assert_allclose(terms[name], (factors[name] * total, weight), rtol=1e-6)
    assert terms.keys() == factors.keys()
    assert loss_of(task_of(), logits, example).keys() == {"cross_entropy"}


def test_one_class_needs_no_channel_for_the_background():
    example = jax.tree.map(lambda x: x[0], batch_of(classes=2))
    logits = logits_of(1)
    loss = functools.partial(
        binary_segmentation_loss, positive_weight=3.0, dice=1.0, focal=1.0, alpha=None
    )
    task = make(2, channels=1, loss=loss)
    terms = loss_of(task, logits, example)

    @jax.jit
    def of_losses(logits, labels):
        counted, targets = labels != 255, (labels == 1)[..., None]
        one, target = logits[..., 0], targets[..., 0]
        return {
            "cross_entropy": pixel_binary_cross_entropy(one, labels, positive_weight=3.0),
            "dice_loss": dice_loss(jax.nn.sigmoid(logits), targets, counted),
            "focal_loss": sigmoid_focal_loss(one, target, counted, alpha=None),
        }

    expected = of_losses(logits, example.labels)
    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        np.testing.assert_allclose(terms[name], term, rtol=1e-6)
    np.testing.assert_array_equal(task.decode(outputs_of(logits), example), logits[..., 0] > 0)
    metrics = jax.eval_shape(task.metrics, outputs_of(logits), example)
    assert metrics["mean_iou"][0].shape == (2,)


def test_what_equals_the_labels_is_perfect_and_what_does_not_count_does_not():
    example = jax.tree.map(lambda x: x[0], batch_of())
    labels = example.labels.astype(int)
    right = np.eye(3)[np.where(labels == 255, 0, labels)]
    task = task_of()
    metrics_of = jax.jit(task.metrics)
    for logits, expected in ((right, 1), (right[..., [1, 2, 0]], 0)):
        metrics = metrics_of(outputs_of(logits), example)
        for name in ("mean_iou", "dice", "pixel_accuracy"):
            total, weight = metrics[name]
            np.testing.assert_allclose(total, expected * weight)
            assert np.sum(weight) > 0
    other = right.copy()
    other[labels == 255] = [0, 0, 9]
    for name, (total, _) in metrics_of(outputs_of(other), example).items():
        np.testing.assert_allclose(total, metrics_of(outputs_of(right), example)[name][0])
    plain, changed = (loss_of(task, x, example)["cross_entropy"] for x in (right, other))
    assert plain == changed


def test_an_image_of_which_nothing_counts_costs_nothing():
    batch = batch_of()
    example = jax.tree.map(lambda x: x[0], batch.replace(labels=np.full_like(batch.labels, 255)))
    for task in (task_of(), make(loss=of_library(dice=1.0, focal=1.0))):

        @jax.jit
        @jax.value_and_grad
        def total(logits, task=task):
            terms = task.loss(outputs_of(logits), example, key=None, step=0)
            return sum(total for total, _ in terms.values())

        value, slope = total(logits_of(3))
        assert value == 0
        assert not np.asarray(slope).any()


def test_labels_are_cropped_to_what_a_network_without_padding_sees():
    task = make(fields={"padding": "valid"}, inputs=Inputs((28, 28)))
    labels = np.random.default_rng(0).integers(0, 3, (28, 28), np.uint8)
    example = SegmentationBatch(image=np.zeros((28, 28, 3), np.uint8), labels=labels, mask=np.True_)
    edge = 8  # four convolutions of 3x3, two of them where pixels are twice as wide
    logits = logits_of(3)[: 28 - 2 * edge, : 28 - 2 * edge]
    inside = labels[edge:-edge, edge:-edge]
    expected = jax.jit(pixel_cross_entropy)(logits, inside)
    np.testing.assert_allclose(loss_of(task, logits, example)["cross_entropy"], expected, rtol=1e-6)
    right = np.eye(3)[inside]
    total, weight = jax.jit(task.metrics)(outputs_of(right), example)["pixel_accuracy"]
    assert total == weight == inside.size


def test_grey_images_are_read_and_predicted():
    inputs = Inputs((SIZE, SIZE), channels=1, mean=(0.5,), std=(0.25,))
    task = make(inputs=inputs)
    record = {"image": batch_of(1).image[0], "labels": batch_of(1).labels[0]}
    example = ToSegmentation(inputs, 3)(record, "a.png")
    assert example.image.shape == (SIZE, SIZE, 1)
    np.testing.assert_array_equal(example.image[..., 0], record["image"][..., 0])
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    assert variables["params"]["encoder0_conv1"]["kernel"].shape[2] == 1
    (found,) = predict(task, variables, [record["image"]])
    assert found.result.shape == (SIZE, SIZE)


class Halves(nn.Module):
    """Class 1 where a pixel is bright, less surely so at the border of a tile."""

    @nn.compact
    def __call__(self, images, *, train):
        bias = self.param("bias", nn.initializers.zeros, ())
        edge = jnp.zeros(images.shape[1:3]).at[2:-2, 2:-2].set(1)[None]
        logits = jnp.where(edge > 0, 8.0, -1.0) * (images[..., 0] - 0.5) + bias
        return {"logits": jnp.stack([0 * logits, logits], axis=-1)}


@pytest.mark.parametrize("average", slow_but([False, True], [True]))
def test_tiles_are_cut_or_averaged(average):
    """The border of a tile is wrong there, and a tile that is right outvotes it."""
    task = segmentation(
        Halves(), INPUTS, class_names=2, loss=None, tile_overlap=0.5, tile_average=average
    )
    image = np.random.default_rng(0).integers(0, 2, (40, 29, 1), np.uint8) * 255
    (found,) = predict(task, {"params": {"bias": np.float32(0)}}, [image])
    inner = slice(4, -4), slice(4, -4)
    np.testing.assert_array_equal(found.result[inner], (image[..., 0] > 0)[inner])


def test_an_auxiliary_map_has_the_same_loss_and_half_the_weight():
    example, main, other = jax.tree.map(lambda x: x[0], batch_of()), logits_of(3), logits_of(3, 2)
    loss = of_library(dice=1.0)
    outputs = {**outputs_of(main), "aux": jnp.asarray(other)}
    terms = jax.jit(make_with_aux(loss=loss).loss, static_argnames=("key", "step"))(
        outputs, example, key=None, step=0
    )
    assert terms.keys() == {"cross_entropy", "dice_loss", "aux_cross_entropy", "aux_dice_loss"}
    alone = make(loss=loss)
    for name, (total, weight) in loss_of(alone, other, example).items():
        np.testing.assert_allclose(terms[f"aux_{name}"], (0.5 * total, weight), rtol=1e-6)
    for name, term in loss_of(alone, main, example).items():
        np.testing.assert_allclose(terms[name], term, rtol=1e-6)


def test_an_auxiliary_map_may_have_a_loss_and_a_factor_of_its_own():
    example, main, other = jax.tree.map(lambda x: x[0], batch_of()), logits_of(3), logits_of(3, 2)
    of_aux = of_library(class_weights=(0.1, 1.0, 2.0), dice=2.0)
    task = make_with_aux(auxiliary=(of_aux, 0.25))
    terms = jax.jit(task.loss, static_argnames=("key", "step"))(
        {**outputs_of(main), "aux": other}, example, key=None, step=0
    )
    assert terms.keys() == {"cross_entropy", "aux_cross_entropy", "aux_dice_loss"}
    for name, (total, weight) in jax.jit(of_aux)(other, example.labels).items():
        np.testing.assert_allclose(terms[f"aux_{name}"], (0.25 * total, weight), rtol=1e-6)


@pytest.mark.parametrize(
    ("make_task", "message"),
    [
        (
            lambda: make_with_aux(auxiliary=(of_library(class_weights=(1.0, 2.0)), 0.5)),
            "^auxiliary: .*class_weights|^auxiliary.class_weights",
        ),
        (lambda: make_with_aux(auxiliary=(segmentation_loss, -1.0)), "^auxiliary is -1.0: give at"),
        (
            lambda: make(auxiliary=(segmentation_loss, 0.5)),
            '^auxiliary is set, but model gives no map "aux": leave it out',
        ),
    ],
)
def test_a_wrong_auxiliary_loss_is_named(make_task, message):
    with pytest.raises(OptionError, match=message):
        make_task()


@pytest.mark.slow
def test_all_augmentation_together():
    steps = (
        aug.ScaleTranslate(scale=(0.8, 1.2), translate=0.1),
        aug.Elastic(2.0),
        aug.RandomFlip(0.5),
        aug.RandomHsv(0.1, 1.5, 1.5),
    )
    task, batch = make(3, *steps), batch_of(8)
    keys = jax.random.split(jax.random.key(0), 8)
    result = jax.jit(jax.vmap(task.augment))(keys, batch)
    assert result.image.shape == batch.image.shape
    assert result.labels.dtype == batch.labels.dtype
    assert set(np.unique(result.labels)) <= {0, 1, 2, 255}
    assert (np.asarray(result.labels) != batch.labels).any()
    assert 0 <= result.image.min() < result.image.max() <= 255


@pytest.mark.slow
def test_it_learns_the_same_on_one_device_and_on_four():
    """With Dice both as a loss and as a metric."""
    task = make(loss=of_library(dice=0.5))
    batches = [batch_of(8, seed=step % 3) for step in range(12)]
    alone, shared = (train(task, batches, n, optimizer=optax.adam(0.01)) for n in (1, 4))
    np.testing.assert_allclose(shared.losses[:4], alone.losses[:4], rtol=1e-3)
    assert shared.losses[-3:].mean() < 0.8 * shared.losses[:3].mean()
    # Filler images change nothing.
    batch = batch_of(8)
    expected = evaluate(task, shared.variables, [batch])
    found = evaluate(task, shared.variables, [with_filler(batch, 8)])
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-5)
    assert expected.metrics.keys() == {"mean_iou", "dice", "pixel_accuracy"}
    assert np.nanmean(found.tables["class_iou"]) == pytest.approx(found.metrics["mean_iou"])


def test_the_table_has_the_overlap_of_each_class_over_all_images():
    task, batch = task_of(), batch_of(6)
    labels = np.where(batch.labels == 255, 0, batch.labels).astype(int)
    labels[3:] = np.where(labels[3:] == 2, 1, labels[3:])  # what is found has no more dogs
    outputs = {"logits": jnp.asarray(np.eye(3)[labels], jnp.float32)}
    collect = jax.jit(jax.vmap(task.dataset_metric.collect))
    collected = jax.device_get(collect(outputs, batch))
    numbers, tables = task.dataset_metric.summarize(collected, [{}] * 6)
    assert numbers == {}
    counted = batch.labels != 255
    expected = []
    for c in range(3):
        found, true = (labels == c) & counted, batch.labels == c
        expected.append((found & true).sum() / (found | true).sum())
    assert expected[2] < expected[1] < 1
    np.testing.assert_allclose(tables["class_iou"], expected, rtol=1e-6)
    nothing = jax.tree.map(lambda x: x[:0], collected)
    assert np.isnan(task.dataset_metric.summarize(nothing, []).tables["class_iou"]).all()


@pytest.mark.parametrize("channels", slow_but([3, 1], [1]))
def test_one_class_has_its_f1_and_roc_auc_over_all_pixels(channels):
    """Against scikit-learn, with probabilities on the grid of the bins."""
    classes = max(channels, 2)
    task = make(classes, channels=channels, positive_class="cat")
    assert task.dataset_metric.names == ("f1", "roc_auc")
    batch, rng = batch_of(3, classes), np.random.default_rng(0)
    grid = rng.integers(1, 1024, batch.labels.shape) / 1024
    grid = np.where(batch.labels == 1, np.sqrt(np.round(1024 * grid**2) / 1024), grid)
    cat = np.clip(np.round(1024 * grid), 1, 1023) / 1024 + 1e-5
    logits = np.log(cat / (1 - cat))[..., None]
    if channels == 3:  # all the rest is background
        logits = np.concatenate([0 * logits, logits, 0 * logits - 99], axis=-1)
    collect = jax.jit(jax.vmap(task.dataset_metric.collect))
    collected = jax.device_get(collect(outputs_of(logits), batch))
    numbers, _ = task.dataset_metric.summarize(collected, [{}] * 3)
    counted, true = batch.labels != 255, batch.labels == 1
    scores = np.round(1024 * (cat - 1e-5))[counted]
    expected = sklearn.metrics.roc_auc_score(true[counted], scores)
    assert numbers["roc_auc"] == pytest.approx(expected, rel=1e-6)
    expected = sklearn.metrics.f1_score(true[counted], cat[counted] > 0.5)
    assert numbers["f1"] == pytest.approx(expected, rel=1e-6)
    nothing = jax.tree.map(lambda x: x[:0], collected)
    assert task.dataset_metric.summarize(nothing, []).numbers == {"f1": 0, "roc_auc": 0}


def my_loss(logits, labels, *, key, step, factor=1.0):
    total, weight = pixel_cross_entropy(logits, labels)
    return {"mine": (factor * total, weight), "t": (step + jax.random.uniform(key), 1.0)}


def test_a_loss_of_ones_own_gets_the_key_and_the_step_if_it_names_them():
    example, logits, key = jax.tree.map(lambda x: x[0], batch_of()), logits_of(3), jax.random.key(3)
    task = make(loss=functools.partial(my_loss, factor=2.0))

    @jax.jit
    def run(logits, key, step):
        terms = task.loss(outputs_of(logits), example, key=key, step=step)
        plain = pixel_cross_entropy(logits, jnp.asarray(example.labels))
        return terms, plain, jax.random.uniform(key)

    terms, (total, weight), drawn = run(logits, key, 6)
    np.testing.assert_allclose(terms["mine"], (2 * total, weight), rtol=1e-6)
    np.testing.assert_allclose(terms["t"], (6 + drawn, 1), rtol=1e-6)
    one_pair = make(loss=pixel_cross_entropy)
    terms = loss_of(one_pair, logits, example)
    np.testing.assert_allclose(terms["segmentation_loss"], (total, weight), rtol=1e-6)


@pytest.mark.parametrize("channels", slow_but([3, 1], [3]))
def test_a_description_gives_the_same_task_for_evaluation(channels):
    classes = max(channels, 2)
    how = {"positive_class": "cat", "tile_overlap": 0.5, "tile_average": True}
    task = make(
        classes,
        aug.RandomFlip(),
        aug.Elastic(2.0),
        channels=channels,
        fields={"norm": "batch_norm"},
        loss=segmentation_loss if channels > 1 else binary_segmentation_loss,
        **how,
    )
    task = with_frozen_statistics(task, ("*",))
    parts = as_json(task)
    if channels == 1:
        assert parts["loss"]["loss"] == {"name": "binary_cross_entropy"}
    else:
        assert parts["loss"]["loss"] == {"name": "segmentation_loss/cross_entropy"}
    again = RESTORE["segmentation"](parts)
    assert again.loss is None
    assert {name: getattr(again, name) for name in how} == how
    assert again.class_names == NAMES[:classes]
    assert again.inputs == INPUTS
    variables, batch = random_values(jax.eval_shape(task.init, jax.random.key(0))), batch_of()

    def run(task, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        return outputs, jax.vmap(task.decode)(outputs, batch)

    expected, found = (jax.jit(functools.partial(run, each))(batch) for each in (task, again))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert set(np.unique(found[1])) <= set(range(classes))
    assert as_json(again)["forward"] == {"model": parts["forward"]["model"]}


def test_an_auxiliary_loss_is_described():
    parts = as_json(make_with_aux(auxiliary=(segmentation_loss, 0.25)))
    loss, factor = parts["loss"]["auxiliary"]
    assert loss == {"name": "segmentation_loss/cross_entropy"}
    assert factor == 0.25
    assert RESTORE["segmentation"](parts).loss is None
    task = make(loss=my_loss)
    assert as_json(task)["loss"]["loss"]["object"].endswith(":my_loss")
    assert task.origin["loss"][0] is task.loss
    assert dataclasses.replace(task, loss=my_loss).origin["loss"][0] is not my_loss
    own = segmentation(Pixels(), INPUTS, class_names=NAMES)
    with pytest.raises(InputError, match="Pixels, which has no name"):
        RESTORE["segmentation"](as_json(own))


class Pixels(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return {"logits": nn.Dense(3)(images)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(1), "^class_names has 1 names: give at least 2"),
        (
            lambda: segmentation(create_model("unet"), INPUTS, class_names=300),
            "^class_names has 300 names: give at most 255",
        ),
        (lambda: make(channels=2), "^model has 2 channels of logits, but there are 3 classes"),
        (lambda: make(channels=1), "^model has 1 channels of logits, but there are 3 classes"),
        (lambda: make(loss=of_library(label_smoothing=0.1)), "^loss: .*'label_smoothing'"),
        (lambda: make(loss=of_library(cross_entropy=0.0)), "^loss.*: the sum of the factors is 0"),
        (lambda: make(loss=of_library(dice=-1.0)), "^loss.*: the factor of dice_loss is -1"),
        (
            lambda: make(loss=of_library(gamma=-1.0, focal=1.0)),
            "^loss.gamma is -1.0: give at least",
        ),
        (lambda: make(loss=of_library(class_weights=(1.0,))), "^loss"),
        (
            lambda: make(loss=lambda logits, labels: logits),
            r"^loss: the loss returns .*: return \(",
        ),
        (
            lambda: make(2, channels=2, loss=binary_segmentation_loss),
            r"^loss: logits is float32\[16, 16, 2\]: give float\[H, W, 1\]",
        ),
        (
            lambda: make(positive_class="cow"),
            "^positive_class is 'cow': did you mean 'cat'|^positi",
        ),
        (lambda: make(tile_overlap=1.0), "^tile_overlap is 1.0: give at least 0 and less than 1"),
        (lambda: make(3, aug.ClassMixup(3)), "^augment: "),
        (
            lambda: make(3, lambda key, x: x.replace(image=x.image[:8])),
            "^augment returns images of",
        ),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(call, message):
    with pytest.raises(OptionError, match=message):
        call()
