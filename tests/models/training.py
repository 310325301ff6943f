"""What any network does in training: gradients, chance, recomputing, bfloat16, statistics."""

import functools

import chex
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interop import from_state_dict
from jaxvision.models import create_model
from tests.models.parity import settle, to_torch, torchvision_network
from tests.models.variables import (
    check_gradients,
    random_variables,
    shapes_of,
)


def train(model, variables, images, key=None):
    """The maps in training, and the new statistics."""
    rngs = None if key is None else {"dropout": key}
    return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)


def loss_of(maps):
    """Of logits, and of auxiliary ones, that all examples are of class 1; of images, of squares."""
    heads = [x for name, x in maps.items() if name == "logits" or name.startswith("aux")]
    if not heads:
        return jnp.square(maps["residual" if "residual" in maps else "image"]).mean()
    return sum(-jax.nn.log_softmax(x.astype(jnp.float32))[..., 1].sum() for x in heads)


def check_training(model, images, shapes, *, random=(), wide=()):
    """What holds for every network that computes in bfloat16, in one program of its training.

    Every parameter gets a finite gradient that is not zero, and every statistic changes. Both stay
    float32, and the maps are bfloat16 and finite. The maps of evaluation, which needs no key, have
    the shapes of those in training.

    Args:
      model: a network of dtype bfloat16.
      images: f32[B, H, W, C].
      shapes: name -> the shape of an image's map in training.
      random: the maps that differ from one key to the next; with the same key none does.
      wide: the maps that are float32.
    """
    evaluated, initial = shapes_of(model, images)
    assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("f4")}
    variables = random_variables(model, images)

    @jax.jit
    def run(variables, key):
        def loss(params):
            maps, changed = train(model, {**variables, "params": params}, images, key)
            return loss_of(maps), (maps, changed)

        return jax.grad(loss, has_aux=True)(variables["params"])

    first, again, other = (
        jax.device_get(run(variables, jax.random.key(seed))) for seed in (0, 0, 1)
    )
    chex.assert_trees_all_equal(first, again)
    gradients, (maps, changed) = first
    check_gradients(gradients)
    assert {name: x.shape[1:] for name, x in maps.items()} == shapes
    for name, x in maps.items():
        assert x.dtype == (jnp.float32 if name in wide else jnp.bfloat16), name
        assert np.isfinite(x).all(), name
        if name in evaluated:
            assert (evaluated[name].shape, evaluated[name].dtype) == (x.shape, x.dtype), name
    assert evaluated.keys() <= maps.keys()
    assert all(name.startswith("aux") for name in maps.keys() - evaluated.keys())
    assert {name for name in maps if (maps[name] != other[1][0][name]).any()} == set(random)
    before = variables.get("batch_stats", {})
    for (path, old), new in zip(
        jax.tree.leaves_with_path(before),
        jax.tree.leaves(changed.get("batch_stats", {})),
        strict=True,
    ):
        assert new.dtype == jnp.float32, path
        assert np.isfinite(new).all(), path
        assert (new != old).any(), path


def check_dropped_block(whole, dropping, images, *, norm, name):
    """A block that is dropped does what it does with a last norm of zero.

    Args:
      whole: the network.
      dropping: the same, which drops its last block always and no other ever.
      images: f32[B, H, W, C].
      norm: the name of that block's last norm.
      name: of a map after it.
    """
    variables = random_variables(whole, images)
    jax.eval_shape(functools.partial(dropping.apply, train=False), variables, images)
    nothing = {key: jnp.zeros_like(x) for key, x in variables["params"][norm].items()}
    without = {**variables, "params": {**variables["params"], norm: nothing}}
    run = jax.jit(lambda variables: train(whole, variables, images)[0][name])
    dropped, _ = jax.jit(functools.partial(train, dropping))(variables, images, jax.random.key(0))
    np.testing.assert_allclose(dropped[name], run(without), rtol=1e-5, atol=1e-5)
    assert np.abs(dropped[name] - run(variables)).max() > 0.1


def check_dropped_last_block(dropping, shallower, images, name):
    """A network that drops its last block is the one without it, but in evaluation.

    Args:
      dropping: the network, which drops its last block always and no other ever.
      shallower: the same without that block.
      images: f32[B, H, W, C].
      name: of a map after it.
    """
    variables = random_variables(dropping, images)
    dropped, _ = jax.jit(lambda key: train(dropping, variables, images, key))(jax.random.key(0))
    expected, _ = jax.jit(lambda: train(shallower, variables, images))()
    np.testing.assert_allclose(dropped[name], expected[name], rtol=1e-5, atol=1e-6)
    kept = jax.jit(lambda: dropping.apply(variables, images, train=False))()
    assert np.abs(kept[name] - expected[name]).max() > 0.01


def check_training_step(torch, theirs, ours, images, names=None):
    """Logits in training, and what they do to running means, are torch's; nothing is dropped.

    Args:
      torch: the library.
      theirs: the network in torch; its state dict fits ours.
      ours: the network, without anything dropped.
      images: f32[B, H, W, C].
      names: of ours -> of theirs, where that gives several logits, in a tuple or a dict; None where
        it gives an array.
    """
    settle(torch, theirs, images)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    like = shapes_of(ours, images)[1]

    def converted():
        state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
        return from_state_dict(state, like)

    before = converted()
    with torch.no_grad():
        given = theirs.train()(to_torch(torch, images))
    after = converted()
    maps, statistics = jax.jit(functools.partial(train, ours))(before, images)
    for name, their_name in (names or {"logits": None}).items():
        expected = given
        if their_name is not None:
            named = given if isinstance(given, dict) else given._asdict()
            expected = named[their_name]
        expected = expected.numpy()
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        assert np.abs(maps[name] - expected).max() <= 1e-4 * np.abs(expected).max(), name
    before, after, statistics = (
        flax.traverse_util.flatten_dict(x["batch_stats"]) for x in (before, after, statistics)
    )
    means = [path for path in after if path[-1] == "mean"]
    assert means
    for path in means:
        moved, ours_moved = (x[path] - before[path] for x in (after, statistics))
        assert np.abs(ours_moved - moved).max() <= 1e-2 * np.abs(moved).max(), path


def check_torchvision_step(name, images, **fields):
    """check_training_step of torchvision's network of a name, and of ours with these fields."""
    torch, theirs = torchvision_network(name, num_classes=10)
    check_training_step(torch, theirs, create_model(name, num_classes=10, **fields), images)
