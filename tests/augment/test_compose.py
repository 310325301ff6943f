"""Several augmentations in a row, with partners, and sometimes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ClassificationBatch, ImageBatch, InputError, OptionError
from tests.augment.test_color import uniform_distance
from tests.augment.test_detection import (
    check_close,
    many_keys,
    painted,
    painted_with_partners,
    stacked,
)
from tests.marks import slow_but

# Sometimes.


@pytest.mark.parametrize("transform", slow_but(["eager", "pmap"], ["pmap"]), indirect=True)
def test_with_probability_turns_bytes_to_floats_under_every_transform(transform):
    def run(key, image):
        return augment.with_probability(key, image, lambda _, x: x + 0.5, probability=0.5)

    over_keys = jax.vmap(run, in_axes=(0, None))
    results = transform(over_keys)(many_keys(6), np.uint8([1, 2]))
    assert {tuple(result) for result in np.asarray(results)} == {(1, 2), (1.5, 2.5)}


def test_with_probability_applies_the_function_to_the_whole_example_or_not_at_all():
    example = painted(0)
    changed = example.replace(image=example.image + 0.5, labels=example.labels + 7)
    run = functools.partial(
        augment.with_probability, function=lambda key, x: changed, probability=0.3
    )
    results = jax.device_get(jax.jit(jax.vmap(run, in_axes=(0, None)))(many_keys(1000), example))
    happened = results.labels[:, 0] == 7
    assert abs(happened.mean() - 0.3) < 0.06
    for happens in (True, False):
        first = np.argmax(happened == happens)
        one = jax.tree.map(lambda x, k=first: x[k], results)
        check_close(one, changed if happens else example, atol=0)


def test_with_probability_gives_the_function_a_key_of_its_own():
    def draw(key, image):
        return image + jax.random.uniform(key)

    def run(key, image):
        return augment.with_probability(key, image, draw, probability=0.5)

    keys = many_keys(300)
    results = np.asarray(jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, np.float32(1)))
    added = results[results != 1] - 1
    assert uniform_distance(added, 0, 1) < 1.95


def test_a_probability_may_be_a_whole_number():
    how = {"function": lambda key, x: x + 1, "probability": 1}
    assert augment.with_probability(jax.random.key(0), np.zeros(2), **how).tolist() == [1, 1]


def test_with_probability_refuses_a_function_that_changes_shapes():
    with pytest.raises(AssertionError, match="shape"):
        augment.with_probability(
            jax.random.key(0), np.zeros((2, 2)), lambda key, x: x[:1], probability=0.5
        )
    with pytest.raises(InputError, match="probability is 2"):
        augment.with_probability(jax.random.key(0), np.zeros(2), lambda key, x: x, probability=2)


# In a row.


def test_each_step_has_a_key_of_its_own():
    steps = (augment.RandomFlip(), augment.RandomHsv(), augment.RandomCrop(2))
    example = ImageBatch(image=painted(0).image[:8, :8], mask=np.True_)

    @jax.jit
    def both(key, example):
        expected = example
        for number, step in enumerate(steps):
            expected = step(jax.random.fold_in(key, number), expected)
        return augment.Compose(steps)(key, example), expected

    result, expected = both(jax.random.key(3), example)
    np.testing.assert_allclose(result.image, expected.image, atol=1e-2)
    assert augment.Compose(())(jax.random.key(3), example).image is example.image


def draw(example_key, example):
    return example.replace(image=example.image + jax.random.uniform(example_key))


def test_functions_are_steps_too():
    image = np.zeros((2, 2, 1), np.float32)
    example = ImageBatch(image=image, mask=np.True_)
    compose = augment.Compose((draw, draw))
    assert compose.partners == 0

    @jax.jit
    def both(key):
        keys = [jax.random.fold_in(key, n) for n in range(2)]
        return compose(key, example).image, sum(map(jax.random.uniform, keys))

    image, expected = both(jax.random.key(0))
    np.testing.assert_allclose(image, np.full((2, 2, 1), expected), rtol=1e-6)


def taking(count):
    """A step that puts the images of its partners behind those of the example."""

    def step(key, example):
        images = [example.image, *example.partners.image]
        return example.replace(image=np.concatenate(images, axis=-1), partners=None)

    step.partners = count
    return step


def test_each_step_takes_the_partners_after_those_of_the_steps_before():
    image = np.zeros((1, 1, 1), np.uint8)
    example = ClassificationBatch(
        image=image, label=np.int32(0), weight=np.float32(1), mask=np.True_
    )
    partners = stacked([example.replace(image=image + n) for n in range(1, 6)])
    example, key = example.replace(partners=partners), jax.random.key(0)
    compose = augment.Compose((taking(3), taking(1)))
    nested = augment.Compose((augment.Compose((taking(3),)), taking(1)))
    for steps in (compose, nested):
        assert steps.partners == 4
        result = steps(key, example)
        assert result.image.tolist() == [[[0, 1, 2, 3, 4]]]
        assert result.partners is None


def test_the_steps_of_detection_take_partners():
    example = painted_with_partners(0)
    compose = augment.Compose((augment.Mosaic(), augment.Mixup()))
    assert compose.partners == 4
    result = jax.eval_shape(compose, jax.random.key(0), example)
    assert result.partners is None
    assert result.image.shape == example.image.shape


def test_partners_that_no_step_takes_are_gone_and_too_few_are_refused():
    example = painted_with_partners(0)

    def left_by(augmentation):
        return jax.eval_shape(augmentation, jax.random.key(0), example).partners

    assert left_by(augment.Compose((augment.RandomFlip(),))) is None
    with pytest.raises(InputError, match=r"^Compose takes 6 of an example's partners, .* are 4"):
        augment.Compose((augment.Mosaic(), augment.Mosaic()))(jax.random.key(0), example)
    assert left_by(augment.Mosaic()).image.shape[0] == 1
    assert left_by(augment.Mosaic(0.5)).image.shape[0] == 1
    with pytest.raises(InputError, match=r"^Compose takes 1 of an example's partners, .* are 0"):
        augment.Compose((augment.ClassMixup(2),))(
            jax.random.key(0), ImageBatch(image=example.image, mask=np.True_)
        )


def test_steps_without_partners_change_the_partners_of_later_steps_by_themselves():
    """The image is 0 and its partner 1; each gets a number of its own, uniform in [0, 1]."""
    image = np.zeros((1, 1, 1), np.float32)
    example = ClassificationBatch(
        image=image, label=np.int32(0), weight=np.float32(1), mask=np.True_
    )
    partners = jax.tree.map(lambda x: x[None], example.replace(image=image + 10))
    example = example.replace(partners=partners)

    def both(key, example):
        images = [example.image, example.partners.image[0]]
        return example.replace(image=jnp.concatenate(images, axis=-1), partners=None)

    both.partners = 1
    compose = augment.Compose((draw, draw, both))
    results = jax.jit(jax.vmap(compose, (0, None)))(many_keys(300), example).image[:, 0, 0]
    ours, theirs = np.asarray(results).T
    theirs = theirs - 10
    for x in (ours, theirs):  # the sum of two uniform numbers
        assert uniform_distance(np.where(x < 1, x**2 / 2, 1 - (2 - x) ** 2 / 2), 0, 1) < 1.95
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.2
    # A step after the one that takes them does not see them.
    compose = augment.Compose((both, draw))
    assert jax.eval_shape(compose, jax.random.key(0), example).partners is None


def test_steps_must_be_functions():
    with pytest.raises(OptionError, match="steps is"):
        augment.Compose((augment.RandomFlip(), 3))
