"""What networks are made of: sizes, maps and names. Nothing is computed."""

import jax
import jax.numpy as jnp

from jaxvision.models import create_model, input_size, summarize
from tests.models.variables import shapes_of


def size_of(tree):
    """How many numbers there are in the arrays of a tree."""
    return sum(x.size for x in jax.tree.leaves(tree))


def check_shapes(maps, batch, sizes, widths, *, first=1, **heads):
    """There are maps c1, c2 ... of these shapes, and heads, and nothing else.

    Args:
      maps: name -> array.
      batch: the number of images.
      sizes: (height, width) of each map.
      widths: channels of each map.
      first: the number in the name of the first map.
      heads: name -> channels, of what has no height and width.
    """
    expected = {
        f"c{i}": (batch, *size, width)
        for i, (size, width) in enumerate(zip(sizes, widths, strict=True), start=first)
    }
    expected |= {name: (batch, width) for name, width in heads.items()}
    assert {name: x.shape for name, x in maps.items()} == expected


def check_published_size(name, count, widths):
    """A mobile network has so many parameters, and maps and a pooled one of these channels."""
    images = jax.ShapeDtypeStruct((1, 224, 193, 3), jnp.float32)
    maps, variables = shapes_of(create_model(name), images)
    assert size_of(variables["params"]) == count
    sizes = ((112, 97), (56, 49), (28, 25), (14, 13), (7, 7))
    check_shapes(maps, 1, sizes, widths[:-1], pooled=widths[-1], logits=1000)


def check_summary(name, count, billions, sizes, widths):
    """A network has so many parameters, multiply-adds (to 0.1 G), and maps c1, c2 ... of these.

    Args:
      name: of a classifier of 1000 classes.
      count: of parameters.
      billions: of multiply-adds at its published size.
      sizes: (height, width) of each map there.
      widths: channels of each map; the last are the pooled one's too.
    """
    summary = summarize(create_model(name), input_size(name))
    assert summary.params == count
    assert round(summary.macs / 1e9, 1) == billions
    maps = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in summary.maps.items()}
    check_shapes(maps, 1, sizes, widths, pooled=widths[-1], logits=1000)


def size_of_chain(before, *layers):
    """The parameters of convolutions (channels, taps), one after the other, and of their norms."""
    total = 0
    for channels, taps in layers:
        total += before * channels * taps + 2 * channels
        before = channels
    return total


def plain(rows):
    """Rows of a table as a config may give them: tuples without names."""
    return tuple(map(plain, rows)) if isinstance(rows, tuple) else rows


def check_without_classes(model, images, maps, classifier):
    """Without classes a network gives these maps alone, and lacks its classifier alone.

    Args:
      model: the network, with classes.
      images: f32[B, H, W, C].
      maps: names.
      classifier: how the names of the classifier's parameters begin, and no others.
    """
    given, variables = shapes_of(model.clone(num_classes=None), images)
    assert given.keys() == maps
    whole = shapes_of(model, images)[1]["params"].keys()
    lacking = {name for name in whole if name.startswith(classifier)}
    assert lacking
    assert variables["params"].keys() == whole - lacking


def check_without_norm(model, images):
    """Without a norm a network has no statistics, and a bias in each of its layers."""
    _, variables = shapes_of(model.clone(norm=None), images)
    assert variables.keys() == {"params"}
    assert all({"kernel", "bias"} == layer.keys() for layer in variables["params"].values())


def act_channels(model, images):
    """The channels of all that a network gives to its act, in order."""
    channels = []

    def act(x):
        channels.append(x.shape[-1])
        return x

    shapes_of(model.clone(act=act), images)
    return channels
