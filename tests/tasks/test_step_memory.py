"""What a training step of Faster R-CNN has in memory, as it is compiled for a CPU."""

import math
import re

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxvision
from jaxvision import engine, tasks
from jaxvision.core import DetectionBatch
from jaxvision.models import create_model

SIZE, SAMPLED = (800, 1344), 512
BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "u8": 1}


def batch_of(objects):
    """The shapes of a batch of one image on one device."""
    shapes = {
        "image": ((*SIZE, 3), jnp.uint8),
        "boxes": ((objects, 4), jnp.float32),
        "labels": ((objects,), jnp.int32),
        "extent": ((2,), jnp.int32),
        "mask": ((), bool),
        **dict.fromkeys(("box_mask", "crowd", "difficult"), ((objects,), bool)),
    }
    return DetectionBatch(
        **{name: jax.ShapeDtypeStruct((1, 1, *shape), of) for name, (shape, of) in shapes.items()}
    )


@pytest.mark.slow
def test_no_array_has_the_cells_of_a_map_for_each_region_and_torch_needs_more():
    model = create_model("fasterrcnn_resnet50_fpn")
    detector = tasks.detectors.faster_rcnn(
        model, box_batch_size_per_image=SAMPLED, trainable_backbone_layers=3
    )
    inputs = jaxvision.Inputs(SIZE)
    task = tasks.detection(detector, inputs, class_names=model.num_classes)
    phase = engine.Phase(optax.sgd(0.1, momentum=0.9), freeze=task.freeze)
    parallel = engine.Parallel(devices=jax.devices("cpu")[:1])
    update = engine.make_update(task, phase, parallel=parallel)
    state, seed = engine.abstract_state(task, phase), engine.seed_array(0)
    compiled = update.lower(state, batch_of(objects=20), seed).compile()

    sizes = compiled.memory_analysis()
    assert sizes.alias_size_in_bytes > 0.99 * sizes.output_size_in_bytes  # the state is replaced
    # By benchmarks/memory.py, torchvision's is at least 2.1 GB.
    assert sizes.argument_size_in_bytes + sizes.temp_size_in_bytes < 1.6e9
    program = compiled.as_text()
    largest = max(
        BYTES[of] * math.prod(map(int, shape.split(",")))
        for of, shape in re.findall(rf"\b({'|'.join(BYTES)})\[([\d,]+)\]", program)
    )
    # The maps of all levels in one table of 256 channels, and one more cell.
    assert largest == 4 * 256 * (1 + sum(math.prod(SIZE) // 4**n for n in (2, 3, 4, 5)))
    assert largest < 4 * SAMPLED * math.prod(SIZE) // 4**2
