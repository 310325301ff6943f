"""Images and variables for tests: sane, random, and made without compiling anything."""

import contextlib
import functools
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def untraced_initialisers(*, also_of_new_parameters=False):
    """Within this context parameters are zeros rather than what initialises them.

    Flax traces that for every parameter that exists, to compare the shapes alone, and it takes a
    third of the time to trace a network.

    Args:
      also_of_new_parameters: whether parameters that do not exist yet are zeros too: for those who
        ask for shapes and not for values.
    """
    original = nn.Module.param

    def zeros(key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def param(self, name, init, *args, **options):
        if args and (also_of_new_parameters or self.has_variable("params", name)):
            init = zeros
        return original(self, name, init, *args, **options)

    with mock.patch.object(nn.Module, "param", param):
        yield


def image_maker(size):
    """images_of(batch, height, width): noise; square of that size, where no other is given."""

    def images_of(batch=2, height=size, width=None):
        shape = (batch, height, width or height, 3)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    return images_of


@functools.cache
def _shapes_of(model, images, train):
    run = functools.partial(model.init_with_output, train=train)
    with untraced_initialisers(also_of_new_parameters=True):
        return jax.eval_shape(run, jax.random.key(0), images)


def shapes_of(model, images, *, train=False):
    """The shapes of (maps, variables), traced once for a network and a shape of images."""
    images = jax.ShapeDtypeStruct(np.shape(images), images.dtype)
    shapes = _shapes_of(model, images, train)
    return jax.tree.map(lambda x: x, shapes)  # A copy: tests change the dicts.


def random_values(shapes):
    """Kernels as large as He's initialisation makes them; nothing else at its starting value."""
    rng = np.random.default_rng(0)

    def draw(path, like):
        leaf = path[-1].key
        if leaf == "kernel":
            values = rng.normal(scale=(2 / np.prod(like.shape[:-1])) ** 0.5, size=like.shape)
        elif leaf in ("scale", "var"):
            values = rng.uniform(0.6, 1.4, like.shape)
        else:
            values = rng.uniform(-0.4, 0.4, like.shape)
        return values.astype(np.float32)

    return jax.tree.map_with_path(draw, shapes)


def random_variables(model, images):
    return random_values(shapes_of(model, images)[1])


def check_gradients(gradients):
    """Each is finite and not zero."""
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def check_learns(objective, params):
    """Every parameter gets a finite gradient of the objective that is not zero."""
    check_gradients(jax.jit(jax.grad(objective))(params))


@functools.cache
def _training_program(model):
    """(variables, images) -> (gradients of a loss, (maps, statistics)), compiled once a network."""

    @jax.jit
    def run(variables, images):
        def loss(params):
            now = {**variables, "params": params}
            maps, statistics = model.apply(now, images, train=True, mutable=["batch_stats"])
            logits = [x for key, x in maps.items() if key == "logits" or key.startswith("aux")]
            total = sum(-jax.nn.log_softmax(x)[..., 1].sum() for x in logits)
            return total, (maps, statistics)

        return jax.grad(loss, has_aux=True)(variables["params"])

    return run


def train_once(model, images):
    """(gradients, (maps, statistics)) of a network with logits, and perhaps auxiliary ones."""
    return _training_program(model)(random_variables(model, images), images)


FORGET = (_shapes_of.cache_clear, _training_program.cache_clear)
"""What forgets the networks that were traced and compiled here."""
