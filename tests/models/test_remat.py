"""Blocks that are computed a second time: the same results, with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import ClassificationBatch, DetectionBatch, Inputs, SegmentationBatch
from jaxvision.engine import Parallel, Phase, abstract_state, make_update, seed_array
from jaxvision.models import MODELS, create_model
from jaxvision.tasks import classification, detection, detectors, segmentation
from tests.jaxprs import equations_of
from tests.marks import long_but
from tests.models.tiny import NETWORKS
from tests.models.variables import random_variables

QUICK = ["dncnn", "lenet5"]
SLOW = ["darknet", "resnet_cifar", "unet_backbone", "yolov2"]


def test_every_network_has_the_field():
    lacking = [name for name in MODELS if not hasattr(create_model(name), "remat")]
    assert not lacking


def recomputations(program):
    return sum("remat" in equation.primitive.name for equation in equations_of(program.jaxpr))


@pytest.mark.parametrize("name", long_but(NETWORKS, QUICK, SLOW))
def test_recomputed_blocks_give_the_same(name):
    """Maps, statistics and gradients, with dropout."""
    make, size = NETWORKS[name]
    images = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    with jax.enable_x64():
        variables = jax.tree.map(np.float64, random_variables(make(), images))

        def results(params, model):
            def loss(params):
                maps, changed = model.apply(
                    {**variables, "params": params},
                    np.float64(images),
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": jax.random.key(0)},
                )
                return sum(jnp.sin(x).sum() for x in jax.tree.leaves(maps)), (maps, changed)

            return jax.grad(loss, has_aux=True)(params)

        params, found, counts = variables["params"], [], []
        for model in (make(), make(remat=True)):
            traced = jax.jit(results, static_argnums=1).trace(params, model)
            counts.append(recomputations(traced.jaxpr))
            found.append(jax.device_get(traced.lower().compile()(params)))
    assert counts[1] > counts[0]  # there is one in each batch norm
    plain, again = found

    def close(path, x, y):
        assert np.isfinite(x).all(), path
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9 * max(1, np.abs(x).max()))

    jax.tree.map_with_path(close, plain, again)


def batch_of(kind, images, size, **fields):
    """The shapes of a batch."""
    shapes = {"image": ((*size, 3), jnp.uint8), "mask": ((), bool), **fields}
    return kind(
        **{name: jax.ShapeDtypeStruct((images, *shape), of) for name, (shape, of) in shapes.items()}
    )


def resnet(**fields):
    size = 64, 64
    task = classification(
        create_model("resnet50", num_classes=10, **fields), Inputs(size), class_names=10
    )
    more = {"label": ((), jnp.int32), "weight": ((), jnp.float32)}
    return task, batch_of(ClassificationBatch, 16, size, **more)


def unet(**fields):
    size = 64, 64
    model = create_model("unet", widths=(32, 64, 128), **fields)
    task = segmentation(model, Inputs(size), class_names=2)
    return task, batch_of(SegmentationBatch, 8, size, labels=(size, jnp.uint8))


def yolo(**fields):
    size = 128, 128
    model = create_model("yolov3", **fields)
    anchors = [(2**n, 2**n) for n in range(9)]
    detector = detectors.yolov3(model, anchors=anchors)
    task = detection(detector, Inputs(size), class_names=model.num_classes)
    more = {
        "boxes": ((1, 4), jnp.float32),
        "labels": ((1,), jnp.int32),
        "extent": ((2,), jnp.int32),
        **dict.fromkeys(("box_mask", "crowd", "difficult"), ((1,), bool)),
    }
    return task, batch_of(DetectionBatch, 8, size, **more)


STEPS = {"resnet50": resnet, "unet": unet, "yolov3": yolo}


@pytest.mark.parametrize("name", long_but(STEPS, [], ["unet"]))
def test_a_step_needs_less_memory(name):
    bytes_of = []
    for remat in (False, True):
        task, batch = STEPS[name](remat=remat)
        phase = Phase(optax.sgd(0.1, momentum=0.9))
        update = make_update(task, phase, parallel=Parallel("shard_map", jax.devices()[:1]))
        lowered = update.lower(abstract_state(task, phase), batch, seed_array(0))
        bytes_of.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    plain, again = bytes_of
    assert again < 0.8 * plain
