"""Networks in bfloat16: what is multiplied, and what stays float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jaxprs import equations_of
from tests.marks import long_but
from tests.models.tiny import NETWORKS
from tests.models.variables import shapes_of

QUICK = ["darknet", "resnet_cifar", "vit"]
SLOW = ["efficientnet", "fcos", "rcnn, masks and keypoints", "swin_v2", "unet_backbone", "yolov4"]
OFFSETS = {"swin_v2": 9}
"""Network -> offsets in a window; a small network computes their biases, in float32."""


def products_of(jaxpr):
    """(name, dtypes and shapes of floating-point operands) of convolutions and products."""
    for equation in equations_of(jaxpr):
        name = equation.primitive.name
        if name in ("conv", "conv_dx", "conv_dk", "conv_general_dilated", "dot_general"):
            yield name, [(x.aval.dtype, x.aval.shape) for x in equation.invars]


@pytest.mark.parametrize("name", long_but(NETWORKS, QUICK, SLOW))
def test_convolutions_and_products_are_of_bfloat16_and_all_that_is_kept_is_float32(name):
    make, size = NETWORKS[name]
    model, images = make(dtype=jnp.bfloat16), jax.ShapeDtypeStruct((2, *size), jnp.float32)
    _, variables = shapes_of(model, images)

    def loss(params, others, images):
        maps, changed = model.apply(
            {"params": params, **others},
            images,
            train=True,
            mutable=list(others),
            rngs={"dropout": jax.random.key(0)},
        )
        maps = [x for x in jax.tree.leaves(maps) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sin(x.astype(jnp.float32)).sum() for x in maps), changed

    others = dict(variables)
    params = others.pop("params")
    program, (gradients, changed) = jax.make_jaxpr(jax.grad(loss, has_aux=True), return_shape=True)(
        params, others, images
    )
    found = list(products_of(program.jaxpr))
    assert found
    for primitive, operands in found:
        dtypes, shapes = zip(*operands, strict=True)
        if any(OFFSETS.get(name) in shape for shape in shapes):
            continue
        assert set(dtypes) == {np.dtype(jnp.bfloat16)}, (primitive, shapes)
    kept = jax.tree.leaves((variables, gradients, changed))
    assert {x.dtype for x in kept} == {np.dtype("f4")}
