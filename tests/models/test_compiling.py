"""Options of XLA: the compiler knows them, they are of networks that exist, and of CPUs alone."""

import jax
import numpy as np

from jaxvision.models import CLASSIFIERS, compiler_options
from jaxvision.ops import conv2d


def test_the_compiler_takes_them_and_the_result_is_the_same():
    rng = np.random.default_rng(0)
    images, kernel = (
        rng.normal(size=shape).astype(np.float32) for shape in ((1, 8, 8, 4), (3, 3, 4, 5))
    )
    plain = jax.jit(conv2d)(images, kernel)
    found = [
        options
        for name in CLASSIFIERS
        for train in (False, True)
        if (options := compiler_options(name, train=train))
    ]
    assert len(found) > 1
    for options in {tuple(options.items()) for options in found}:
        run = jax.jit(conv2d, compiler_options=dict(options))
        np.testing.assert_allclose(run(images, kernel), plain, rtol=1e-5, atol=1e-5)


def test_what_was_not_measured_has_none(monkeypatch):
    assert compiler_options("vit_b_16", train=False) == {}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options("resnet18", train=False) == {}


def test_they_are_the_callers_own():
    compiler_options("resnet18", train=False).clear()
    assert compiler_options("resnet18", train=False)
