"""The classification task: settings, augmentation, one forward pass, loss, metrics, decoding."""

import dataclasses
import functools
import math
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxvision import augment as aug
from jaxvision.cli.config import default_config
from jaxvision.core import AXIS, ClassificationBatch, InputError, Keys, divide, sum_terms
from jaxvision.tasks import TASKS
from tests.engine.test_update import train
from tests.models.variables import random_values
from tests.reference import losses as reference

MODELS = {
    "lenet5": {"name": "lenet5"},
    "resnet20": {"name": "resnet20", "blocks": 1, "widths": (4, 6, 8)},
}


def changes_of(augment=()):
    changes = default_config().augment
    changes.update(dict(augment))
    return changes


def config_of(model="lenet5", *, data=(), augment=(), loss="cross_entropy", **loss_options):
    defaults = {
        "image_size": 32,
        "channels": 3,
        "num_classes": 4,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.1, 0.2, 0.5),
    }
    return types.SimpleNamespace(
        model=MODELS[model],
        data=types.SimpleNamespace(**defaults | dict(data)),
        augment=changes_of(augment),
        loss={"name": loss, **loss_options},
    )


def config_dict_of(model="lenet5"):
    config = vars(config_of(model))
    as_dicts = {
        k: vars(v) if isinstance(v, types.SimpleNamespace) else v for k, v in config.items()
    }
    return ml_collections.ConfigDict(as_dicts)


def task_of(*args, **changes):
    return TASKS["classification"](config_of(*args, **changes))


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
    augmented = task_of().augment(jax.random.key(0), example)
    jax.tree.map(np.testing.assert_array_equal, augmented, example)
    assert augmented.image.dtype == np.uint8


CHANGES = [
    {"flip": True},
    {"padding": 4},
    {"degrees": 20.0},
    {"crop_scale": (0.3, 0.9), "crop_on_device": True},
    {"brightness": 0.4, "contrast": 0.3},
    {"hue": 0.2},
    {"rand_augment": 2},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_augmentation_changes_the_image_and_nothing_else(change):
    task, example = task_of(augment=change), example_of(batch_of())
    keys = jax.random.split(jax.random.key(0), 8)
    augmented = jax.jit(jax.vmap(task.augment, in_axes=(0, None)))(keys, example)
    assert augmented.image.shape == (8, 32, 32, 3)
    assert (augmented.image != example.image[None]).any(axis=(1, 2, 3)).sum() >= 2
    np.testing.assert_array_equal(augmented.label, np.full(8, example.label))
    np.testing.assert_array_equal(augmented.weight, np.full(8, example.weight))
    assert augmented.mask.all()


def test_older_augmentations_draw_as_they_always_did():
    """So that an older run, resumed, goes on as it was."""
    example, key = example_of(batch_of()), jax.random.key(5)
    flip, crop, turn = jax.random.split(key, 3)
    image = aug.horizontal_flip(flip, example.image)
    image = aug.pad_and_crop(crop, image, padding=2)
    image = aug.random_rotation(turn, image, degrees=10.0)
    task = task_of(augment={"flip": True, "padding": 2, "degrees": 10.0})
    np.testing.assert_array_equal(task.augment(key, example).image, image)


def test_options_reach_what_they_are_of():
    example, key = example_of(batch_of()), jax.random.key(5)
    cropped = aug.random_resized_crop(jax.random.fold_in(key, 3), example.image, scale=(0.3, 0.9))
    jittered = aug.color_jitter(
        jax.random.fold_in(key, 4), cropped, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.1
    )
    expected = aug.rand_augment(jax.random.fold_in(key, 5), jittered, num_ops=1, magnitude=14)
    options = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.1}
    options |= {"rand_augment": 1, "rand_augment_magnitude": 14}
    options |= {"crop_scale": (0.3, 0.9), "crop_on_device": True}
    result = task_of(augment=options).augment(key, example)
    np.testing.assert_allclose(result.image, expected, atol=1e-3)


MIXES = {"mixup": 0.4, "cutmix": 0.4, "mixup_alpha": 1.0}


def with_partners(batch):
    """Each with the one before it."""
    others = jax.tree.map(lambda x: np.roll(x, 1, axis=0)[:, None], batch)
    return batch.replace(partners=others)


def test_one_partner_comes_only_if_it_is_mixed_in():
    assert task_of().partners == task_of(augment={"rand_augment": 2}).partners == 0
    assert task_of(augment={"mixup": 0.1}).partners == 1
    assert task_of(augment=MIXES).partners == 1


def test_mixed_targets_sum_to_one_and_evaluation_knows_labels_only():
    task, batch = task_of(augment=MIXES), with_partners(batch_of(32))
    keys = jax.random.split(jax.random.key(1), 32)
    mixed = jax.jit(jax.vmap(task.augment))(keys, batch)
    assert mixed.partners is None
    assert mixed.label.shape == (32, 4)
    np.testing.assert_allclose(mixed.label.sum(axis=1), 1, rtol=1e-6)
    soft = (mixed.label > 0).sum(axis=1) > 1
    assert 5 < soft.sum() < 32
    whole = ~soft & (batch.label != batch.partners.label[:, 0])
    np.testing.assert_array_equal(mixed.label[whole].argmax(axis=1), batch.label[whole])
    prepared = jax.vmap(task.prepare)(batch_of())
    assert prepared.label.shape == (4,)


def test_a_partner_is_augmented_with_a_key_of_its_own():
    """Two copies of an image with random offsets: in both halves another one."""
    task = task_of(augment={"padding": 4, "mixup": 1.0, "mixup_alpha": 20.0})
    plain = dataclasses.replace(task, augment=task_of(augment={"padding": 4}).augment)
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3)).astype(np.uint8)
    example = example_of(batch_of()).replace(image=image, weight=np.float32(1), label=np.int32(0))
    partners = jax.tree.map(lambda x: x[None], example.replace(label=np.int32(1)))
    keys = jax.random.split(jax.random.key(0), 10)
    run = jax.jit(jax.vmap(task.augment, (0, None)))
    mixed = jax.device_get(run(keys, example.replace(partners=partners)))
    own = jax.jit(jax.vmap(plain.augment, (0, None)))(keys, example).image
    share = mixed.label[:, :1, None, None]
    other = (mixed.image - share * own) / (1 - share)
    assert abs(other - own).max(axis=(1, 2, 3)).min() > 100
    # The other half is the image at another offset.
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    offsets = [
        [
            (y, x)
            for y in range(9)
            for x in range(9)
            if abs(padded[y : y + 32, x : x + 32] - half).max() < 0.01
        ]
        for half in other
    ]
    assert all(len(found) == 1 for found in offsets)
    assert len({found[0] for found in offsets}) > 5


def test_mixed_batches_have_the_same_losses_on_one_device_and_on_four():
    task, batch = task_of(augment=MIXES | {"flip": True}), with_partners(batch_of(8))
    batches = [batch.replace(mask=np.ones(8, bool))] * 3
    one, four = (train(task, batches, devices)[0] for devices in (1, 4))
    np.testing.assert_allclose(one, four, rtol=1e-5)
    assert len(set(one)) == 3


def test_the_augmentations_draw_independently():
    task = task_of(augment={"flip": True, "padding": 1, "degrees": 20.0})
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
def test_a_config_dict_makes_the_same_network(name):
    key = jax.random.key(0)
    shapes = jax.eval_shape(TASKS["classification"](config_dict_of(name)).init, key)
    assert shapes == jax.eval_shape(task_of(name).init, key)


@pytest.mark.parametrize("name", MODELS)
def test_forward_in_evaluation_changes_no_statistics(name):
    task = task_of(name)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    batch = jax.vmap(task.prepare)(batch_of())
    forward = functools.partial(task.forward, keys=None, step=0, train=False)
    outputs, statistics = jax.eval_shape(forward, variables, batch)
    assert outputs["logits"].shape == (4, 4)
    assert statistics == {}


@pytest.mark.parametrize("name", MODELS)
def test_forward_in_training_gives_the_statistics_of_all_devices(name):
    task = task_of(name)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batch = jax.vmap(task.prepare)(batch_of(8))

    def forward(variables, batch):
        return task.forward(variables, batch, keys=keys_of(2), step=0, train=True)

    shards = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    run = jax.pmap(forward, axis_name=AXIS, in_axes=(None, 0))
    outputs, statistics = run(variables, shards)
    assert outputs["logits"].shape == (4, 2, 4)
    before = {k: v for k, v in variables.items() if k != "params"}
    assert statistics.keys() == before.keys()
    for new, old in zip(jax.tree.leaves(statistics), jax.tree.leaves(before), strict=True):
        assert np.abs(new[0] - old).max() > 1e-4
        np.testing.assert_array_equal(new, np.broadcast_to(new[:1], new.shape))


def loss_of(task, logits, batch):
    def loss(logits, example, key):
        return task.loss({"logits": logits}, example, key=key, step=0)

    keys = keys_of(len(logits)).example
    return sum_terms(jax.vmap(loss)(logits, batch, keys), batch.mask)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_of_a_batch_is_the_weighted_mean_over_what_is_no_filler(soft, label_smoothing):
    logits = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    batch = batch_of()
    if soft:
        batch = batch.replace(label=np.random.default_rng(2).dirichlet(np.ones(4), 4).astype("f4"))
    terms = loss_of(task_of(label_smoothing=label_smoothing), logits, batch)
    assert terms.keys() == {"classification_loss"}
    pairs = [
        reference.cross_entropy(
            logits[i], batch.label[i], batch.weight[i], label_smoothing=label_smoothing
        )
        for i in range(3)
    ]
    expected = sum(total for total, _ in pairs) / sum(weight for _, weight in pairs)
    np.testing.assert_allclose(divide(*terms["classification_loss"]), expected, rtol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_accuracy_of_a_batch_counts_what_is_no_filler_once(soft):
    batch = batch_of().replace(label=np.int32([0, 1, 2, 3]))
    if soft:
        batch = batch.replace(label=np.float32(0.1 + 0.6 * np.eye(4)))
    logits = np.float32(np.eye(4)[[0, 1, 3, 3]])  # right, right, wrong, filler
    outputs = {"logits": logits}
    terms = sum_terms(jax.vmap(task_of().metrics)(outputs, batch), batch.mask)
    assert terms.keys() == {"accuracy"}
    assert terms["accuracy"] == (2, 3)


def test_decode_gives_the_label_and_probabilities(transform):
    logits = np.float32([0, math.log(5), math.log(2), 0])
    decoded = transform(task_of().decode)({"logits": logits})
    assert decoded["label"] == 1
    np.testing.assert_allclose(decoded["probabilities"], np.float32([1, 5, 2, 1]) / 9, rtol=1e-6)


def test_a_step_in_training_has_finite_gradients():
    task = task_of()
    variables = task.init(jax.random.key(0))
    batch = jax.vmap(task.prepare)(batch_of())

    def objective(params):
        outputs, _ = task.forward(
            {**variables, "params": params}, batch, keys=keys_of(4), step=0, train=True
        )
        return divide(*loss_of(task, outputs["logits"], batch)["classification_loss"])

    gradients = jax.jit(jax.grad(objective))(variables["params"])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@pytest.mark.parametrize(
    ("data", "figures"),
    [
        ({"mean": (0.5,)}, "3 channels, but 1 figures in mean and 3 in std"),
        ({"std": (0.5, 1)}, "3 channels, but 3 figures in mean and 2 in std"),
        ({"channels": 1}, "1 channels, but 3 figures in mean and 3 in std"),
    ],
    ids=["mean", "std", "channels"],
)
def test_another_number_of_figures_than_channels_is_refused(data, figures):
    with pytest.raises(InputError, match=rf"config\.data has {figures}"):
        task_of(data=data)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0, 1.5, float("nan")])
def test_label_smoothing_out_of_range_is_refused(label_smoothing):
    with pytest.raises(InputError, match=r"config\.loss.label_smoothing is"):
        task_of(label_smoothing=label_smoothing)


@pytest.mark.parametrize("label_smoothing", [0, 0.0, 0.999])
def test_label_smoothing_in_range_is_taken(label_smoothing):
    task_of(label_smoothing=label_smoothing)


OWN_LOSS = """
import jax.numpy as jnp


def margin(logits, label, *, width=1.0):
    right = logits[label]
    others = jnp.where(jnp.arange(len(logits)) == label, -jnp.inf, logits)
    return jnp.maximum(0, width + others.max() - right), jnp.float32(1)


def of_all_classes(logits, label):
    return logits, jnp.float32(1)


def a_dictionary(logits, label):
    return {"one": jnp.float32(1), "two": jnp.float32(1)}
"""


@pytest.mark.parametrize("by", ["file", "module"])
def test_a_loss_of_the_users_own_is_found_by_name(tmp_path, monkeypatch, by):
    (tmp_path / "own_loss_for_test.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    where = tmp_path / "own_loss_for_test.py" if by == "file" else "own_loss_for_test"
    logits = np.float32([[0, 1, 4, 0], [2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    batch = batch_of().replace(label=np.int32([1, 0, 3, 0]), weight=np.float32([1, 2, 0.5, 1]))
    terms = loss_of(task_of(loss=f"{where}:margin", width=2.0), logits, batch)
    # By hand: 2 + 4 - 1, 2 + 1 - 2 and 2 + 0 - 0, times the weights; the last is filler.
    assert {name: tuple(map(float, pair)) for name, pair in terms.items()} == {
        "classification_loss": (5 + 2 * 1 + 0.5 * 2, 3.5)
    }


def test_a_focal_loss_by_name():
    logits = np.float32([[0, 1, 4, 0]] * 4)
    terms = loss_of(task_of(loss="softmax_focal_loss", gamma=0.0), logits, batch_of())
    plain = loss_of(task_of(), logits, batch_of())
    np.testing.assert_allclose(
        terms["classification_loss"], plain["classification_loss"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("cross_entrop", {}, "unknown loss 'cross_entrop': did you mean 'cross_entropy'"),
        ("softmax_focal_loss", {"label_smoothing": 0.1}, "unexpected keyword argument 'label_sm"),
        ("softmax_focal_loss", {"gamma": -1.0}, "config.loss.gamma is -1.0: give at least 0"),
        ("FILE:marginal", {}, "unknown loss of .*: did you mean 'margin'"),
        ("FILE:of_all_classes", {}, r"the loss returns .*: give \(total, weight\), two num"),
        ("FILE:a_dictionary", {}, r"the loss returns .*: give \(total, weight\), two num"),
        ("no_file.py:margin", {}, "there is no file .*no_file.py"),
        ("no_such_module:margin", {}, "No module named 'no_such_module'"),
    ],
)
def test_a_loss_that_cannot_be_used_says_why(tmp_path, loss, options, message):
    (tmp_path / "own.py").write_text(OWN_LOSS)
    with pytest.raises(InputError, match=message):
        task_of(loss=loss.replace("FILE", str(tmp_path / "own.py")), **options)


def test_a_wrong_model_or_field_is_refused():
    config = config_of()
    config.model = {"name": "lenet6"}
    with pytest.raises(InputError, match="unknown model 'lenet6': did you mean 'lenet5'"):
        TASKS["classification"](config)
    config.model = {"name": "lenet5", "activations": None}
    with pytest.raises(InputError, match=r"lenet5 has no field 'activations': .*'activation'"):
        TASKS["classification"](config)


def test_an_image_size_that_the_model_cannot_take_is_refused_at_the_start():
    task = task_of(data={"image_size": 28})
    with pytest.raises(InputError, match="32x32 images, got 28x28"):
        task.init(jax.random.key(0))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"padding": -1}, "config.augment.padding is -1"),
        ({"brightness": -0.1}, "config.augment.brightness is -0.1"),
        ({"contrast": float("nan")}, "config.augment.contrast is nan"),
        ({"saturation": float("inf")}, "config.augment.saturation is inf"),
        ({"hue": 0.6}, "config.augment.hue is 0.6: give at least 0 and at most 0.5"),
        ({"rand_augment": -1}, "config.augment.rand_augment is -1"),
        ({"rand_augment_magnitude": 31}, "config.augment.rand_augment_magnitude is 31"),
        ({"mixup": 1.1}, "config.augment.mixup is 1.1"),
        ({"mixup_alpha": 0.0}, "config.augment.mixup_alpha is 0.0"),
        ({"cutmix": -0.5}, "config.augment.cutmix is -0.5"),
        ({"cutmix_alpha": -1.0}, "config.augment.cutmix_alpha is -1.0"),
        ({"mixup": 0.6, "cutmix": 0.6}, "mixup plus config.augment.cutmix is 1.2"),
        ({"crop_scale": (0.5,)}, r"config.augment.crop_scale is \(0.5,\): give the least"),
        ({"crop_scale": (0.5, 1.1)}, "largest config.augment.crop_scale is 1.1"),
        ({"crop_scale": (0.5, 0.4)}, "least config.augment.crop_scale is 0.5: .* most 0.4"),
        ({"crop_scale": (0.0, 0.4)}, "least config.augment.crop_scale is 0.0"),
    ],
    ids=str,
)
def test_augmentations_out_of_range_are_refused_by_their_key(augment, message):
    with pytest.raises(InputError, match=message):
        task_of(augment=augment)


@pytest.mark.parametrize("name", ["softmax_focal_loss", "FILE:margin"])
def test_a_loss_that_takes_no_shares_is_refused_with_mixup(tmp_path, name):
    (tmp_path / "own.py").write_text(OWN_LOSS)
    name = name.replace("FILE", str(tmp_path / "own.py"))
    task_of(loss=name)
    with pytest.raises(InputError, match=r"mixup and cutmix give targets f32\[4\], which the loss"):
        task_of(loss=name, augment={"cutmix": 0.5})
