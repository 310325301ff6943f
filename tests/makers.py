"""Makers of random arrays: each a function of a numpy generator."""

import numpy as np

from tests.ops.boxes import HARD

COORDINATE, LOGIT = 1e6, 80


def extreme_boxes(*shape):
    """f32[*shape, 4]: any coordinates up to 1e6 in magnitude, small boxes among them."""

    def make(rng):
        spread = rng.uniform(-COORDINATE, COORDINATE, (*shape, 4))
        corner = rng.uniform(-COORDINATE, COORDINATE, (*shape, 2))
        near = np.concatenate([corner, corner + 10 ** rng.uniform(-3, 4, (*shape, 2))], axis=-1)
        near = np.clip(near, -COORDINATE, COORDINATE)
        hard = HARD[rng.integers(0, len(HARD), shape)]
        kind = rng.integers(0, 3, (*shape, 1))
        return np.select([kind == 0, kind == 1], [spread, near], hard).astype("f4")

    return make


def extreme_numbers(*shape, least=-LOGIT, most=LOGIT):
    """f32[*shape]: the ends of the range, 0, and what lies between."""

    def make(rng):
        ends = rng.choice([least, most, 0], shape)
        return np.where(rng.random(shape) < 0.5, ends, rng.uniform(least, most, shape)).astype("f4")

    return make


def boxes(*shape, size=64):
    """f32[*shape, 4]: boxes of some pixels in an image of a size."""

    def make(rng):
        corner = rng.uniform(0, size * 0.75, (*shape, 2))
        sides = rng.uniform(2, size / 2, (*shape, 2))
        return np.concatenate([corner, corner + sides], axis=-1).astype("f4")

    return make


def normal(*shape, scale=1.0):
    return lambda rng: rng.normal(scale=scale, size=shape).astype("f4")


def uniform(*shape, least=0.0, most=1.0):
    return lambda rng: rng.uniform(least, most, shape).astype("f4")


def whole(*shape, most=1, least=0):
    """i64[*shape], both ends included."""
    return lambda rng: rng.integers(least, most + 1, shape)


def mask(*shape):
    return lambda rng: rng.random(shape) < 0.5
