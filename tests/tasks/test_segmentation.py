"""The segmentation task: losses, metrics, what is found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError, SegmentationBatch
from jaxvision.engine import Optimizer, Parallel, init_state, make_evaluate, make_update
from jaxvision.losses import (
    dice_loss,
    pixel_binary_cross_entropy,
    pixel_cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from jaxvision.tasks import segmentation

SIZE = 16


def config_of(classes=3, **changes):
    config = default_config("segmentation")
    config.data.image_size = SIZE
    config.data.class_names = ("nothing", "cat", "dog")[:classes]
    config.model.widths = (4, 8)
    with config.unlocked():
        for key, value in changes.items():
            *groups, last = key.split("__")
            functools.reduce(getattr, groups, config)[last] = value
    return config


def config_with_aux(**changes):
    config = config_of(model__name="unet_backbone", **changes)
    config.model.backbone = {"name": "plain_darknet", "stages": ((1, ((4, 3),)), (2, ((4, 3),)))}
    config.model.widths = (4,)
    config.model.aux = True
    return config


def batch_of(size=4, classes=3, seed=0, **changes):
    """Images in which the colour says the class, with some pixels that do not count."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (size, 4, 4))
    labels = np.repeat(np.repeat(coarse, SIZE // 4, 1), SIZE // 4, 2).astype(np.uint8)
    image = np.repeat((100 * labels)[..., None], 3, axis=-1)
    labels[:, 0, :3] = 255
    fields = {"image": image, "labels": labels, "mask": np.ones(size, bool)}
    return SegmentationBatch(**{**fields, **changes})


@functools.cache
def task_of(classes=3, name="cross_entropy"):
    return segmentation(config_of(classes, loss__name=name))


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
    task = segmentation(
        config_of(
            loss__cross_entropy=0.5,
            loss__dice=2.0,
            loss__focal=3.0,
            loss__gamma=1.5,
            loss__class_weights=weights,
            loss__smooth=0.1,
        )
    )
    terms = loss_of(task, logits, example)
    total, weight = pixel_cross_entropy(logits, labels, class_weights=weights)
    np.testing.assert_allclose(terms["cross_entropy"], (0.5 * total, weight), rtol=1e-6)
    targets = jax.nn.one_hot(labels, 3)
    total, weight = dice_loss(jax.nn.softmax(logits), targets, labels != 255, smooth=0.1)
    np.testing.assert_allclose(terms["dice_loss"], (2 * total, weight), rtol=1e-6)
    total, weight = softmax_focal_loss(
        logits, np.where(labels == 255, 0, labels), labels != 255, alpha=weights, gamma=1.5
    )
    np.testing.assert_allclose(terms["focal_loss"], (3 * total, weight), rtol=1e-6)
    assert loss_of(task_of(), logits, example).keys() == {"cross_entropy"}


def test_one_class_needs_no_channel_for_the_background():
    example = jax.tree.map(lambda x: x[0], batch_of(classes=2))
    logits = logits_of(1)
    task = segmentation(
        config_of(
            2,
            loss__name="binary_cross_entropy",
            loss__positive_weight=3.0,
            loss__dice=1.0,
            loss__focal=1.0,
            loss__alpha=None,
        )
    )
    terms = loss_of(task, logits, example)
    expected = pixel_binary_cross_entropy(logits[..., 0], example.labels, positive_weight=3.0)
    np.testing.assert_allclose(terms["cross_entropy"], expected, rtol=1e-6)
    targets = (example.labels == 1)[..., None]
    expected = dice_loss(jax.nn.sigmoid(logits), targets, example.labels != 255)
    np.testing.assert_allclose(terms["dice_loss"], expected, rtol=1e-6)
    expected = sigmoid_focal_loss(
        logits[..., 0], targets[..., 0], example.labels != 255, alpha=None
    )
    np.testing.assert_allclose(terms["focal_loss"], expected, rtol=1e-6)
    np.testing.assert_array_equal(task.decode(outputs_of(logits)), logits[..., 0] > 0)
    metrics = task.metrics(outputs_of(logits), example)
    assert metrics["mean_iou"][0].shape == (2,)


def test_what_equals_the_labels_is_perfect_and_what_does_not_count_does_not():
    example = jax.tree.map(lambda x: x[0], batch_of())
    labels = example.labels.astype(int)
    right = np.eye(3)[np.where(labels == 255, 0, labels)]
    task = task_of()
    for logits, expected in ((right, 1), (right[..., [1, 2, 0]], 0)):
        metrics = task.metrics(outputs_of(logits), example)
        for name in ("mean_iou", "dice", "pixel_accuracy"):
            total, weight = metrics[name]
            np.testing.assert_allclose(total, expected * weight)
            assert np.sum(weight) > 0
    other = right.copy()
    other[labels == 255] = [0, 0, 9]
    for name, (total, _) in task.metrics(outputs_of(other), example).items():
        np.testing.assert_allclose(total, task.metrics(outputs_of(right), example)[name][0])
    plain, changed = (loss_of(task, x, example)["cross_entropy"] for x in (right, other))
    assert plain == changed


def test_an_image_of_which_nothing_counts_costs_nothing():
    batch = batch_of()
    example = jax.tree.map(lambda x: x[0], batch.replace(labels=np.full_like(batch.labels, 255)))
    for task in (task_of(), segmentation(config_of(loss__dice=1.0, loss__focal=1.0))):

        def total(logits, task=task):
            terms = task.loss(outputs_of(logits), example, key=None, step=0)
            return sum(total for total, _ in terms.values())

        value, slope = jax.value_and_grad(total)(logits_of(3))
        assert value == 0
        assert not np.asarray(slope).any()


def test_labels_are_cropped_to_what_a_network_without_padding_sees():
    config = config_of(model__padding="valid")
    config.data.image_size = 28
    task = segmentation(config)
    labels = np.random.default_rng(0).integers(0, 3, (28, 28), np.uint8)
    example = SegmentationBatch(image=np.zeros((28, 28, 3), np.uint8), labels=labels, mask=np.True_)
    edge = 8  # four convolutions of 3x3, two of them where pixels are twice as wide
    logits = logits_of(3)[: 28 - 2 * edge, : 28 - 2 * edge]
    inside = labels[edge:-edge, edge:-edge]
    expected = pixel_cross_entropy(logits, inside)
    np.testing.assert_allclose(loss_of(task, logits, example)["cross_entropy"], expected, rtol=1e-6)
    right = np.eye(3)[inside]
    total, weight = task.metrics(outputs_of(right), example)["pixel_accuracy"]
    assert total == weight == inside.size


@pytest.mark.parametrize("options", [{}, {"class_weights": (0.1, 1.0, 2.0), "dice": 2.0}])
def test_an_auxiliary_map_has_the_same_loss_but_for_its_factor_and_options(options):
    example, main, other = jax.tree.map(lambda x: x[0], batch_of()), logits_of(3), logits_of(3, 2)
    changes = {f"auxiliary__{name}": value for name, value in options.items()}
    task = segmentation(config_with_aux(auxiliary__factor=0.25, loss__dice=1.0, **changes))
    alone = segmentation(
        config_of(**{f"loss__{name}": value for name, value in {"dice": 1.0, **options}.items()})
    )
    outputs = {**outputs_of(main), "aux": jnp.asarray(other)}
    terms = task.loss(outputs, example, key=None, step=0)
    assert terms.keys() == {"cross_entropy", "dice_loss", "aux_cross_entropy", "aux_dice_loss"}
    for name, (total, weight) in loss_of(alone, other, example).items():
        np.testing.assert_allclose(terms[f"aux_{name}"], (0.25 * total, weight), rtol=1e-6)
    for name, term in loss_of(segmentation(config_of(loss__dice=1.0)), main, example).items():
        np.testing.assert_allclose(terms[name], term, rtol=1e-6)


def test_a_wrong_option_of_the_auxiliary_loss_is_named():
    with pytest.raises(InputError, match=r"config\.auxiliary: .*class_weights"):
        segmentation(config_with_aux(auxiliary__class_weights=(1.0, 2.0)))


def test_options_of_an_auxiliary_loss_that_is_not_there_are_an_error():
    with pytest.raises(InputError, match=r"config\.auxiliary\.dice .*'unet' gives none"):
        segmentation(config_of(auxiliary__dice=1.0))


def test_all_augmentation_together():
    changes = {
        "augment__scale": (0.8, 1.2),
        "augment__translate": 0.1,
        "augment__elastic": 2.0,
        "augment__flip": 0.5,
        "augment__hue": 0.1,
        "augment__saturation": 1.5,
        "augment__value": 1.5,
    }
    task, batch = segmentation(config_of(**changes)), batch_of(8)
    keys = jax.random.split(jax.random.key(0), 8)
    result = jax.jit(jax.vmap(task.augment))(keys, batch)
    assert result.image.shape == batch.image.shape
    assert result.labels.dtype == batch.labels.dtype
    assert set(np.unique(result.labels)) <= {0, 1, 2, 255}
    assert (np.asarray(result.labels) != batch.labels).any()
    assert 0 <= result.image.min() < result.image.max() <= 255


@functools.cache
def task_of_both():
    """Both Dice as a loss and Dice as a metric."""
    return segmentation(config_of(loss__dice=0.5))


def train(devices, steps=12):
    task = task_of_both()
    parallel = Parallel("pmap", jax.devices()[:devices])
    transformation = optax.with_extra_args_support(optax.adam(0.01))
    optimizer = Optimizer(transformation, lambda _: 0.01)
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    batches = [parallel.shard(batch_of(8, seed=k)) for k in range(3)]
    losses = []
    for step in range(steps):
        state, record = update(state, batches[step % 3])
        losses.append(float(record["loss"]))
    return task, parallel, state, np.array(losses)


@pytest.mark.slow
def test_it_learns_the_same_on_one_device_and_on_four():
    _, _, _, alone = train(1)
    task, parallel, state, losses = train(4)
    np.testing.assert_allclose(losses[:4], alone[:4], rtol=1e-3)
    assert losses[-3:].mean() < 0.8 * losses[:3].mean()
    # Filler images change nothing.
    evaluate = make_evaluate(task, parallel=parallel)
    batch = batch_of(8)
    filled = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x)]), batch)
    expected = evaluate(state, [batch]).metrics
    assert evaluate(state, [filled]).metrics == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {"mean_iou", "dice", "pixel_accuracy"}


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        (1, {}, "number of config.data.class_names is 1: give at least 2"),
        (3, {"loss__name": "binary_cross_entropy"}, "with a binary loss is 3: give at most 2"),
        (3, {"loss__name": "crossentropy"}, "unknown loss 'crossentropy'"),
        (3, {"loss__label_smoothing": 0.1}, "config.loss: cross_entropy got other options"),
        (3, {"loss__cross_entropy": 0.0}, "config.loss: the sum of the factors is 0"),
        (3, {"loss__class_weights": (1.0,)}, "config.loss: "),
        (3, {"data__mean": (0.5,)}, "3 channels, but 1 figures in mean"),
        (3, {"data__image_size": 0}, "config.data.image_size is 0"),
        (3, {"model__wdths": (4,)}, "unet has no field 'wdths'"),
    ],
)
def test_settings_that_do_not_fit_are_clear_errors(classes, changes, message):
    with pytest.raises(InputError, match=message):
        segmentation(config_of(classes, **changes))
