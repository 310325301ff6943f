"""Checks that all ways to differentiate a function agree, with each other and with differences."""

import jax
import jax.numpy as jnp
import numpy as np

PLATFORMS = ("cpu", "cuda", "tpu")


def lower_for_each_platform(traced):
    """What a traced function is on each platform, after a check that it holds no choice of one."""
    lowered = {p: traced.lower(lowering_platforms=(p,)) for p in PLATFORMS}
    for platform, program in lowered.items():
        assert "stablehlo.case" not in program.as_text(), platform
    return lowered


def check_derivatives(
    fn, *arrays, step=1e-6, tolerance=1e-7, differences=True, batched=True, seed=0
):
    """jvp, vjp, jvp of grad, grad of jvp and vmap of each are equal, and equal to differences.

    The second derivatives are those of a nonlinear function of the values, so that they are not
    zero for linear functions. All are computed on CPU, and lowered for CUDA and TPU.

    Args:
      fn: float64 arrays in, a pytree of arrays out, of which those of integers are left out.
      *arrays: pytrees of arguments, to differentiate by all.
      step: of the central differences, along random directions of length 1.
      tolerance: of differences, relative to the largest value; rounding may do a thousandth of it.
      differences: whether to compare with differences: not where a derivative is defined otherwise.
      batched: whether vmap is checked too.
      seed: of the directions.
    Raises:
      AssertionError: a derivative differs, or what is lowered for one platform chooses it.
    """
    leaves, tree = jax.tree.flatten(arrays)
    assert {leaf.dtype for leaf in leaves} == {np.dtype("f8")}
    ends = np.cumsum([leaf.size for leaf in leaves])

    def flat(x):
        parts = zip(jnp.split(x, ends[:-1]), leaves, strict=True)
        values = fn(*jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in parts]))
        kept = [y for y in jax.tree.leaves(values) if y.dtype == x.dtype]
        return jnp.concatenate([y.ravel() for y in kept])

    rng = np.random.default_rng(seed)
    copies = 2 if batched else 1
    x = np.concatenate([np.ravel(leaf) for leaf in leaves])
    x = np.stack([x, x + step][:copies])
    u, v = (rng.normal(size=x.shape) for _ in range(2))
    u, v = (d / np.linalg.norm(d, axis=1, keepdims=True) for d in (u, v))
    w = rng.normal(size=(copies, *jax.eval_shape(flat, x[0]).shape))

    def derivatives(x, u, v, w):
        def objective(x):
            return (w * jnp.sin(flat(x))).sum()

        gradient = jax.grad(objective)
        return {
            "jvp": jax.jvp(flat, (x,), (u,))[1],
            "vjp": jax.vjp(flat, x)[1](w)[0],
            "jvp of grad": jax.jvp(gradient, (x,), (v,))[1],
            "grad of jvp": jax.grad(lambda x: jax.jvp(objective, (x,), (v,))[1])(x),
        }

    def by_differences(x, u, v, w):
        gradient = jax.grad(lambda x: (w * jnp.sin(flat(x))).sum())
        return {
            "jvp": (flat(x + step * u) - flat(x - step * u)) / (2 * step),
            "jvp of grad": (gradient(x + step * v) - gradient(x - step * v)) / (2 * step),
        }

    def close(actual, expected, tolerance, name):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        worst = float(np.abs(actual - expected).max(initial=0)) / scale
        assert worst <= tolerance, f"{name}: differs by {worst} of {scale}"

    first = [argument[0] for argument in (x, u, v, w)]
    traced = jax.jit(derivatives).trace(*first)
    found = jax.device_get(lower_for_each_platform(traced)["cpu"].compile()(*first))
    exact = tolerance / 1000
    close(found["jvp"] @ w[0], found["vjp"] @ u[0], exact, "vjp against jvp")
    close(found["grad of jvp"], found["jvp of grad"], exact, "grad of jvp")
    if differences:
        for name, expected in jax.device_get(jax.jit(by_differences)(*first)).items():
            close(found[name], expected, tolerance, name)
    if batched:
        mapped = jax.jit(jax.vmap(derivatives)).trace(x, u, v, w)
        compiled = lower_for_each_platform(mapped)["cpu"].compile()
        for name, values in jax.device_get(compiled(x, u, v, w)).items():
            close(values[0], found[name], exact, f"vmap of {name}")
