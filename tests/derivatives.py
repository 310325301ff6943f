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

    def around(places, w):
        """The values and the gradients at each place, one after the other."""

        def at(x):
            gradient = jax.grad(lambda x: (w * jnp.sin(flat(x))).sum())
            return flat(x), gradient(x)

        return jax.lax.map(at, places)

    def everything(x, u, v, w, places):
        found = {"single": derivatives(x[0], u[0], v[0], w[0])}
        if batched:
            found["mapped"] = jax.vmap(derivatives)(x, u, v, w)
        if differences:
            found["around"] = around(places, w[0])
        return found

    def close(actual, expected, tolerance, name):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        worst = float(np.abs(actual - expected).max(initial=0)) / scale
        assert worst <= tolerance, f"{name}: differs by {worst} of {scale}"

    # All of it is one program: most of the time goes into making programs.
    places = [x[0] + step * u[0], x[0] - step * u[0], x[0] + step * v[0], x[0] - step * v[0]]
    arguments = x, u, v, w, np.stack(places)
    lowered = lower_for_each_platform(jax.jit(everything).trace(*arguments))
    results = jax.device_get(lowered["cpu"].compile()(*arguments))
    found, exact = results["single"], tolerance / 1000
    close(found["jvp"] @ w[0], found["vjp"] @ u[0], exact, "vjp against jvp")
    close(found["grad of jvp"], found["jvp of grad"], exact, "grad of jvp")
    if differences:
        values, gradients = results["around"]
        expected = (values[0] - values[1]) / (2 * step)
        close(found["jvp"], expected, tolerance, "jvp")
        expected = (gradients[2] - gradients[3]) / (2 * step)
        close(found["jvp of grad"], expected, tolerance, "jvp of grad")
    if batched:
        for name, values in results["mapped"].items():
            close(values[0], found[name], exact, f"vmap of {name}")
