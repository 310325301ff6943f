"""The classification task: augmentation, one forward pass, loss, metrics, decoding, description."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment as aug
from jaxvision.core import (
    AXIS,
    ClassificationBatch,
    InputError,
    Inputs,
    Keys,
    OptionError,
    divide,
    sum_terms,
)
from jaxvision.losses import cross_entropy, softmax_focal_loss
from jaxvision.models import create_model
from jaxvision.tasks import RESTORE, classification, with_frozen_statistics
from tests.marks import long_but
from tests.models.variables import random_values
from tests.reference import losses as reference
from tests.tasks.loop import as_json, train

MODELS = {
    "lenet5": functools.partial(create_model, "lenet5", num_classes=4),
    "resnet20": functools.partial(
        create_model, "resnet20", num_classes=4, blocks=1, widths=(4, 6, 8)
    ),
}
INPUTS = Inputs((32, 32), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.5))


@functools.cache
def task_of(model="lenet5", *augment, **options):
    return classification(
        MODELS[model](), INPUTS, **{"class_names": 4, "augment": augment, **options}
    )


def batch_of(size=4):
    rng = np.random.default_rng(0)
    return ClassificationBatch(
        image=rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8),
        label=rng.integers(4, size=size).astype(np.int32),
        weight=rng.uniform(0.1, 2, size).astype(np.float32),
        mask=np.arange(size) != size - 1,
    )


def example_of(batch, index=0):
    return jax.tree.map(lambda x: x[index], batch)


def keys_of(size):
    return Keys(example=jax.random.split(jax.random.key(1), size), device=jax.random.key(2))


def test_without_changes_augment_is_the_identity():
    example = example_of(batch_of())
    augmented = jax.device_get(jax.jit(task_of().augment)(jax.random.key(0), example))
    jax.tree.map(np.testing.assert_array_equal, augmented, example)
    assert augmented.image.dtype == np.uint8


CHANGES = [
    aug.RandomFlip(),
    aug.RandomCrop(4),
    aug.Rotate(20.0),
    aug.RandomResizedCrop((0.3, 0.9)),
    aug.ColorJitter(brightness=0.4, contrast=0.3),
    aug.ColorJitter(hue=0.2),
    aug.RandAugment(2),
]


@pytest.mark.parametrize("change", long_but(CHANGES, [CHANGES[0]]), ids=str)
def test_every_augmentation_changes_the_image_and_nothing_else(change):
    task, example = task_of("lenet5", change), example_of(batch_of())
    keys = jax.random.split(jax.random.key(0), 8)
    augmented = jax.jit(jax.vmap(task.augment, in_axes=(0, None)))(keys, example)
    assert augmented.image.shape == (8, 32, 32, 3)
    assert (augmented.image != example.image[None]).any(axis=(1, 2, 3)).sum() >= 2
    np.testing.assert_array_equal(augmented.label, np.full(8, example.label))
    np.testing.assert_array_equal(augmented.weight, np.full(8, example.weight))
    assert augmented.mask.all()


def brighter(key, example):
    return example.replace(image=example.image + jax.random.uniform(key))


STEPS = {
    "few": (aug.RandomCrop(4), aug.ColorJitter(contrast=0.2), brighter),
    "many": (
        aug.RandomResizedCrop((0.3, 0.9)),
        aug.ColorJitter(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.1),
        aug.RandAugment(1, 14),
        brighter,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("steps", long_but(STEPS, ["few"]))
def test_augmentations_follow_one_another_each_with_a_key_of_its_own(steps):
    example, key, steps = example_of(batch_of()), jax.random.key(5), STEPS[steps]

    @jax.jit
    def one_by_one(key, example):
        for number, step in enumerate(steps):
            example = step(jax.random.fold_in(key, number), example)
        return example

    expected = one_by_one(key, example)
    result = jax.jit(task_of("lenet5", *steps).augment)(key, example)
    np.testing.assert_allclose(result.image, expected.image, atol=1e-3)


MIX = aug.ClassMixup(4, mixup=0.4, cutmix=0.4, mixup_alpha=1.0)


def with_partners(batch):
    """Each with the one before it."""
    others = jax.tree.map(lambda x: np.roll(x, 1, axis=0)[:, None], batch)
    return batch.replace(partners=others)


def test_partners_are_as_many_as_the_augmentation_takes():
    assert task_of().partners == task_of("lenet5", aug.RandAugment(2)).partners == 0
    assert task_of("lenet5", aug.RandomFlip(), MIX).partners == 1
    assert task_of("lenet5", MIX, MIX).partners == 2


@pytest.mark.slow
def test_mixed_targets_sum_to_one_and_evaluation_knows_labels_only():
    task, batch = task_of("lenet5", MIX), with_partners(batch_of(32))
    keys = jax.random.split(jax.random.key(1), 32)
    mixed = jax.device_get(jax.jit(jax.vmap(task.augment))(keys, batch))
    assert mixed.partners is None
    assert mixed.label.shape == (32, 4)
    np.testing.assert_allclose(mixed.label.sum(axis=1), 1, rtol=1e-6)
    soft = (mixed.label > 0).sum(axis=1) > 1
    assert 5 < soft.sum() < 32
    whole = ~soft & (batch.label != batch.partners.label[:, 0])
    np.testing.assert_array_equal(mixed.label[whole].argmax(axis=1), batch.label[whole])
    assert jax.eval_shape(jax.vmap(task.prepare), batch_of()).label.shape == (4,)


def take_the_partner(key, example):
    return example.replace(image=example.partners.image[0], partners=None)


take_the_partner.partners = 1


def test_a_partner_is_augmented_with_a_key_of_its_own():
    """Two copies of an image with random offsets, which differ."""
    task = task_of("lenet5", aug.RandomCrop(4), take_the_partner)
    plain = task_of("lenet5", aug.RandomCrop(4))
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3)).astype(np.uint8)
    example = example_of(batch_of()).replace(image=image)
    partners = jax.tree.map(lambda x: x[None], example)
    keys = jax.random.split(jax.random.key(0), 10)

    @jax.jit
    def run(keys, example, both):
        taken = jax.vmap(task.augment, (0, None))(keys, both)
        return taken.image, jax.vmap(plain.augment, (0, None))(keys, example).image

    images = jax.device_get(run(keys, example, example.replace(partners=partners)))
    others, own = (x.astype(np.float32) for x in images)
    assert abs(others - own).max(axis=(1, 2, 3)).min() > 100
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    offsets = [
        [
            (y, x)
            for y in range(9)
            for x in range(9)
            if abs(padded[y : y + 32, x : x + 32] - other).max() < 0.01
        ]
        for other in others
    ]
    assert all(len(found) == 1 for found in offsets)
    assert len({found[0] for found in offsets}) > 5


class Strides(nn.Module):
    """A network that sees where in the image something is, and compiles fast."""

    @nn.compact
    def __call__(self, images, *, train):
        return {"logits": nn.Dense(4)(images[:, ::8, ::8].reshape(len(images), -1))}


@pytest.mark.long
def test_mixed_batches_have_the_same_losses_on_one_device_and_on_four():
    task = classification(Strides(), INPUTS, class_names=4, augment=(aug.RandomFlip(), MIX))
    batch = with_partners(batch_of(8))
    batches = [batch.replace(mask=np.ones(8, bool))] * 3
    one, four = (train(task, batches, devices).losses for devices in (1, 4))
    np.testing.assert_allclose(one, four, rtol=1e-5)
    assert len(set(one)) == 3


@pytest.mark.slow
def test_the_augmentations_draw_independently():
    task = task_of("lenet5", aug.RandomFlip(), aug.RandomCrop(1), aug.Rotate(20.0))
    x, y = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)
    ramps = np.stack([x, y, y], axis=-1).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 1440)
    example = example_of(batch_of()).replace(image=ramps)
    augmented = jax.jit(jax.vmap(task.augment, in_axes=(0, None)))(keys, example)
    centre = np.asarray(augmented.image)[:, 15:17, 15:17]
    # The slopes tell the flip and the turn, the value between four pixels the offset.
    flip = np.sign(centre[:, 0, 1, 0] - centre[:, 0, 0, 0])
    turn = flip * np.sign(centre[:, 0, 0, 0] - centre[:, 1, 0, 0])
    left, top = np.round(centre.mean(axis=(1, 2))[:, :2]).T
    draws, counts = np.unique(np.stack([flip, turn, left, top]), axis=1, return_counts=True)
    assert draws.shape[1] == 2 * 2 * 3 * 3
    assert abs(counts - 40).max() < 4 * 40**0.5


def test_prepare_normalises_by_channel():
    example = example_of(batch_of())
    prepared = task_of().prepare(example)
    for channel, (mean, std) in enumerate([(0.5, 0.1), (0.4, 0.2), (0.3, 0.5)]):
        expected = (example.image[..., channel] / 255 - mean) / std
        np.testing.assert_allclose(prepared.image[..., channel], expected, atol=1e-5)
    assert prepared.image.dtype == jnp.float32
    assert prepared.label == example.label


@pytest.mark.parametrize("name", MODELS)
def test_forward_in_evaluation_changes_no_statistics(name):
    task = task_of(name)
    variables = jax.eval_shape(task.init, jax.random.key(0))

    def forward(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        return task.forward(variables, batch, keys=None, step=0, train=False)

    outputs, statistics = jax.eval_shape(forward, variables, batch_of())
    assert outputs["logits"].shape == (4, 4)
    assert statistics == {}


@pytest.mark.parametrize("name", MODELS)
def test_forward_in_training_gives_the_statistics_of_all_devices(name):
    task = task_of(name)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))

    def forward(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        return task.forward(variables, batch, keys=keys_of(2), step=0, train=True)

    shards = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch_of(8))
    run = jax.pmap(forward, axis_name=AXIS, in_axes=(None, 0))
    outputs, statistics = jax.device_get(run(variables, shards))
    assert outputs["logits"].shape == (4, 2, 4)
    before = {k: v for k, v in variables.items() if k != "params"}
    assert statistics.keys() == before.keys()
    for new, old in zip(jax.tree.leaves(statistics), jax.tree.leaves(before), strict=True):
        assert np.abs(new[0] - old).max() > 1e-4
        np.testing.assert_array_equal(new, np.broadcast_to(new[:1], new.shape))


def loss_of(task, logits, batch):
    def loss(logits, example, key):
        return task.loss({"logits": logits}, example, key=key, step=0)

    @jax.jit
    def run(logits, batch):
        keys = keys_of(len(logits)).example
        return sum_terms(jax.vmap(loss)(logits, batch, keys), batch.mask)

    return run(logits, batch)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_of_a_batch_is_the_weighted_mean_over_what_is_no_filler(soft, label_smoothing):
    logits = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    batch = batch_of()
    if soft:
        batch = batch.replace(label=np.random.default_rng(2).dirichlet(np.ones(4), 4).astype("f4"))
    loss = functools.partial(cross_entropy, label_smoothing=label_smoothing)
    terms = loss_of(task_of(loss=loss), logits, batch)
    assert terms.keys() == {"classification_loss"}
    pairs = [
        reference.cross_entropy(
            logits[i], batch.label[i], batch.weight[i], label_smoothing=label_smoothing
        )
        for i in range(3)
    ]
    expected = sum(total for total, _ in pairs) / sum(weight for _, weight in pairs)
    np.testing.assert_allclose(divide(*terms["classification_loss"]), expected, rtol=1e-5)


def sums_of(task, logits, batch):
    """The metrics of a batch, added up."""

    @jax.jit
    def run(logits, batch):
        return sum_terms(jax.vmap(task.metrics)({"logits": logits}, batch), batch.mask)

    return run(logits, batch)


@pytest.mark.parametrize("soft", [False, True])
def test_accuracy_of_a_batch_counts_what_is_no_filler_once(soft):
    batch = batch_of().replace(label=np.int32([0, 1, 2, 3]))
    if soft:
        batch = batch.replace(label=np.float32(0.1 + 0.6 * np.eye(4)))
    logits = np.float32(np.eye(4)[[0, 1, 3, 3]])  # right, right, wrong, filler
    terms = sums_of(task_of(), logits, batch)
    assert terms.keys() == {"accuracy"}
    assert terms["accuracy"] == (2, 3)


def test_decode_gives_the_label_and_probabilities(transform):
    logits = np.float32([0, math.log(5), math.log(2), 0])
    decoded = transform(task_of().decode)({"logits": logits}, None)
    assert decoded["label"] == 1
    np.testing.assert_allclose(decoded["probabilities"], np.float32([1, 5, 2, 1]) / 9, rtol=1e-6)


def test_a_step_in_training_has_finite_gradients():
    task = task_of()
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))

    def objective(params):
        batch = jax.vmap(task.prepare)(batch_of())
        outputs, _ = task.forward(
            {**variables, "params": params}, batch, keys=keys_of(4), step=0, train=True
        )
        return divide(*loss_of(task, outputs["logits"], batch)["classification_loss"])

    gradients = jax.jit(jax.grad(objective))(variables["params"])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0, 1.5, float("nan")])
def test_an_option_of_the_loss_out_of_range_is_refused(label_smoothing):
    loss = functools.partial(cross_entropy, label_smoothing=label_smoothing)
    with pytest.raises(OptionError, match=r"^loss\.label_smoothing is") as caught:
        task_of(loss=loss)
    assert caught.value.option == "loss.label_smoothing"


@pytest.mark.parametrize("label_smoothing", [0, 0.0, 0.999])
def test_label_smoothing_in_range_is_taken(label_smoothing):
    task_of(loss=functools.partial(cross_entropy, label_smoothing=label_smoothing))


def margin(logits, label, *, width=1.0):
    right = logits[label]
    others = jnp.where(jnp.arange(len(logits)) == label, -jnp.inf, logits)
    return jnp.maximum(0, width + others.max() - right), jnp.float32(1)


def of_all_classes(logits, label):
    return logits, jnp.float32(1)


def a_dictionary(logits, label):
    return {"one": jnp.float32(1), "two": jnp.float32(1)}


def a_number(logits, label):
    return logits.sum()


def by_key_and_step(logits, label, *, key, step):
    total, weight = cross_entropy(logits, label)
    return {"plain": (total, weight), "noise": (jax.random.uniform(key), weight), "t": (step, 1)}


def with_an_option_too_many(logits, label, temperature):
    return logits[label] / temperature, 1


def test_a_loss_of_the_users_own():
    logits = np.float32([[0, 1, 4, 0], [2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    batch = batch_of().replace(label=np.int32([1, 0, 3, 0]), weight=np.float32([1, 2, 0.5, 1]))
    terms = loss_of(task_of(loss=functools.partial(margin, width=2.0)), logits, batch)
    # By hand: 2 + 4 - 1, 2 + 1 - 2 and 2 + 0 - 0, times the weights; the last is filler.
    assert {name: tuple(map(float, pair)) for name, pair in terms.items()} == {
        "classification_loss": (5 + 2 * 1 + 0.5 * 2, 3.5)
    }


def test_a_loss_that_names_the_key_and_the_step_gets_them():
    task, example, key = task_of(loss=by_key_and_step), example_of(batch_of()), jax.random.key(7)
    logits = np.float32([0, 1, 4, 0])
    plain_task, weight = task_of(), example.weight

    @jax.jit
    def run(outputs, key, step):
        terms = task.loss(outputs, example, key=key, step=step)
        plain = plain_task.loss(outputs, example, key=key, step=0)["classification_loss"]
        return terms, plain, jax.random.uniform(key)

    terms, plain, drawn = run({"logits": logits}, key, 12)
    np.testing.assert_allclose(terms["plain"], plain, rtol=1e-6)
    np.testing.assert_allclose(terms["noise"][0], weight * drawn, rtol=1e-6)
    np.testing.assert_allclose(terms["t"], (12 * weight, weight), rtol=1e-6)


def test_a_key_that_is_set_already_is_kept():
    loss = functools.partial(by_key_and_step, step=5)
    terms = jax.jit(task_of(loss=loss).loss)(
        {"logits": np.zeros(4, "f4")}, example_of(batch_of()), key=jax.random.key(0), step=12
    )
    np.testing.assert_allclose(terms["t"][0] / terms["t"][1], 5)


def test_a_focal_loss():
    logits = np.float32([[0, 1, 4, 0]] * 4)
    loss = functools.partial(softmax_focal_loss, gamma=0.0)
    terms = loss_of(task_of(loss=loss), logits, batch_of())
    plain = loss_of(task_of(), logits, batch_of())
    np.testing.assert_allclose(
        terms["classification_loss"], plain["classification_loss"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            functools.partial(softmax_focal_loss, label_smoothing=0.1),
            "^loss: .*unexpected keyword argument 'label_smoothing'",
        ),
        (functools.partial(softmax_focal_loss, gamma=-1.0), "^loss.gamma is -1.0: give at least 0"),
        (of_all_classes, r"^loss: the loss returns .*: return \(total, weight\), two numbers"),
        (a_dictionary, r"^loss: the loss returns .*: return \(total, weight\), two numbers"),
        (a_number, r"^loss: the loss returns .*: return \(total, weight\), two numbers"),
        (lambda logits: (logits.sum(), 1), "^loss: <lambda> cannot be called as it is: too many"),
        (with_an_option_too_many, "^loss: with_an_option_too_many .* missing .* 'temperature'"),
    ],
)
def test_a_loss_that_cannot_be_used_says_why(loss, message):
    with pytest.raises(OptionError, match=message):
        task_of(loss=loss)


class OneArray(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(4)(images.mean((1, 2)))


class WithoutTrain(nn.Module):
    @nn.compact
    def __call__(self, images):
        return {"logits": nn.Dense(4)(images.mean((1, 2)))}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            create_model("lenet5", num_classes=3),
            "^model has 3 channels of logits, but .* 4 classes",
        ),
        (create_model("unet", widths=(4,)), r"^model has|^model: "),
        (create_model("dncnn_s", depth=3, width=4), "^model gives no map 'logits', but image"),
        (OneArray(), "^model: the network returns .*: return a dict of named maps"),
        (WithoutTrain(), "^model: .*unexpected keyword argument 'train'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(model, message):
    with pytest.raises(OptionError, match=message) as caught:
        classification(model, INPUTS, class_names=4)
    assert caught.value.option == "model"


def test_an_image_size_that_the_model_cannot_take_is_refused():
    with pytest.raises(OptionError, match=r"^model: .*32x32 images, got 28x28"):
        classification(MODELS["lenet5"](), Inputs((28, 28)), class_names=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": 0}, "^class_names has 0 names: give at least 1"),
        ({"class_names": ()}, "^class_names has 0 names: give at least 1"),
        ({"class_names": "abcd"}, "^class_names is 'abcd': give names"),
        ({"class_names": (0, 1, 2, 3)}, r"^class_names is \(0, 1, 2, 3\): give names"),
        ({"top_k": (1, 5)}, "^top_k is 5: give at least 1 and at most 4"),
        ({"top_k": (0,)}, "^top_k is 0"),
    ],
)
def test_an_option_out_of_range_is_named(options, message):
    with pytest.raises(OptionError, match=message) as caught:
        task_of(**options)
    assert caught.value.option in options


def test_augmentations_that_cannot_be_used_are_named():
    with pytest.raises(OptionError, match=r"^augment gives targets f32\[3\], but there are 4"):
        task_of("lenet5", aug.ClassMixup(3, mixup=1.0))
    with pytest.raises(InputError, match="functions"):
        task_of("lenet5", 3)
    with pytest.raises(InputError, match="augment returns tuple: return the example"):
        task_of("lenet5", lambda key, example: (example,))


@pytest.mark.parametrize("loss", [softmax_focal_loss, margin])
def test_a_loss_that_takes_no_distributions_is_refused_with_mixup(loss):
    task_of(loss=loss)
    with pytest.raises(OptionError, match=r"^augment gives soft targets, f32\[4\], which the loss"):
        task_of("lenet5", aug.ClassMixup(4, cutmix=0.5), loss=loss)


def test_several_numbers_of_guesses():
    logits = np.float32([[4, 3, 2, 1]] * 4)
    batch = batch_of().replace(label=np.int32([0, 1, 2, 0]))
    terms = sums_of(task_of(top_k=(1, 2)), logits, batch)
    assert terms == {"accuracy": (1, 3), "top2_accuracy": (2, 3)}


def test_the_metric_over_all_examples_counts_confusions_and_calibration():
    metric = task_of().dataset_metric
    assert not metric.needs_records
    logits = jnp.log(np.float32([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [1, 1, 1, 1]]))
    batch = jax.tree.map(lambda x: x[:3], batch_of()).replace(label=np.int32([0, 1, 2]))
    collected = jax.device_get(jax.vmap(metric.collect)({"logits": logits}, batch))
    numbers, tables = metric.summarize(collected, ())
    expected = np.zeros((4, 4))
    expected[[0, 1, 2], [0, 3, 0]] = 1
    np.testing.assert_array_equal(tables["confusions"], expected)
    np.testing.assert_array_equal(tables["class_support"], [1, 1, 1, 0])
    assert numbers["ece"] == pytest.approx(2 / 3 * abs(0.5 - 0.7) + 1 / 3 * 0.25, rel=1e-5)
    assert metric.summarize(None, ()).numbers == {"ece": 0.0}


def test_five_guesses_are_measured_of_more_than_five_classes():
    for count, k in ((5, [1]), (6, [1, 5])):
        model = create_model("lenet5", num_classes=count)
        task = classification(model, INPUTS, class_names=count)
        assert task.origin["metrics"][1] == {"top_k": k}


def test_classes_have_names_or_numbers():
    assert task_of().class_names == ("0", "1", "2", "3")
    names = ("cat", "dog", "cow", "hen")
    assert classification(MODELS["lenet5"](), INPUTS, class_names=list(names)).class_names == names


NAMES = ("cat", "dog", "cow", "hen")


def test_a_description_gives_the_same_task_for_evaluation():
    task = task_of(
        "resnet20",
        aug.RandomFlip(),
        aug.ClassMixup(4, mixup=0.5),
        class_names=NAMES,
        loss=functools.partial(cross_entropy, label_smoothing=0.1),
        top_k=(1, 3),
    )
    task = with_frozen_statistics(task, ("bn1",))
    parts = as_json(task)
    assert parts["loss"] == {
        "loss": {"name": "classification_loss/cross_entropy", "label_smoothing": 0.1}
    }
    assert [step["name"] for step in parts["augment"]["augment"]] == ["RandomFlip", "ClassMixup"]
    assert parts["forward"]["freeze_statistics"] == ["bn1"]
    again = RESTORE["classification"](parts)
    assert again.loss is None
    assert again.class_names == NAMES
    assert again.inputs == task.inputs
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))

    def run(task, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        decoded = jax.vmap(task.decode)(outputs, batch)
        return outputs, decoded, jax.vmap(task.metrics)(outputs, batch)

    expected, found = (jax.jit(functools.partial(run, each))(batch_of()) for each in (task, again))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert found[2].keys() == {"accuracy", "top3_accuracy"}
    assert as_json(again)["forward"] == {"model": parts["forward"]["model"]}


def test_a_part_of_the_users_own_is_told_from_what_was_built():
    task = task_of(loss=margin)
    assert task.origin["loss"][1]["loss"]["object"].endswith(":margin")
    assert task.origin["loss"][0] is task.loss
    mine = dataclasses.replace(task, loss=lambda *arguments, **given: {})
    assert mine.origin["loss"][0] is not mine.loss
    parts = as_json(classification(OneMap(), INPUTS, class_names=4))
    with pytest.raises(InputError, match="OneMap, which has no name"):
        RESTORE["classification"](parts)


class OneMap(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return {"logits": nn.Dense(4)(images.mean((1, 2)))}
