"""Variables for tests: sane, random, and made without compiling anything."""

import functools

import jax
import numpy as np


def shapes_of(model, images, *, train=False):
    """The shapes of (maps, variables)."""
    run = functools.partial(model.init_with_output, train=train)
    return jax.eval_shape(run, jax.random.key(0), images)


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
