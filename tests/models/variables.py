"""Images and variables for tests: sane, random, and made without compiling anything."""

import functools

import jax
import numpy as np


def image_maker(size):
    """images_of(batch, height, width): noise; square of that size, where no other is given."""

    def images_of(batch=2, height=size, width=None):
        shape = (batch, height, width or height, 3)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    return images_of


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


def check_learns(objective, params):
    """Every parameter gets a finite gradient of the objective that is not zero."""
    for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(objective))(params)):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def check_network_learns(model, images):
    """Every parameter of a network with logits, and perhaps auxiliary ones, learns in training."""
    variables = random_variables(model, images)

    def objective(params):
        now = {**variables, "params": params}
        maps, _ = model.apply(now, images, train=True, mutable=["batch_stats"])
        logits = [x for key, x in maps.items() if key == "logits" or key.startswith("aux")]
        return sum(-jax.nn.log_softmax(x)[..., 1].sum() for x in logits)

    check_learns(objective, variables["params"])
