"""What compiled programs for H200 and TPU hold. Needs the extras plan-cuda and plan-tpu."""

import json
import subprocess
import sys
from importlib import util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxvision
from jaxvision import data, ops, planning, tasks

pytestmark = pytest.mark.long
for_gpu = pytest.mark.skipif(
    util.find_spec("jax_cuda12_plugin") is None, reason="needs the extra plan-cuda"
)
for_tpu = pytest.mark.skipif(util.find_spec("libtpu") is None, reason="needs the extra plan-tpu")

CLASSES = 1000
BLANK = np.zeros((64, 64, 3), np.uint8)
# Name -> (side of the images, a batch that is no number of channels, most bytes and most temporary
# memory over those of plain Flax).
NETWORKS = {
    "resnet50": (224, 40, 0.97, 1.02),
    "mobilenet_v2": (224, 40, 1.02, 1.02),
    "densenet121": (224, 40, 1.02, 1.02),
    "vit_b_16": (224, 40, 1.02, 1.02),
    "unet": (256, 10, 1.02, 1.02),
}


def flax_batch_norm(x, *, name, train, axis_name, dtype, param_dtype, **options):
    """Flax's own, with the options of ours."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        axis_name=axis_name,
        dtype=dtype,
        param_dtype=param_dtype,
        epsilon=options.get("epsilon", 1e-5),
        name=name,
    )(x)


def task_and_batch(name, *, target, dtype=jnp.bfloat16, batch_size=None, **fields):
    side, usual, *_ = NETWORKS[name]
    kind = "segmentation" if name == "unet" else "classification"
    classes = 21 if name == "unet" else CLASSES
    model = jaxvision.create_model(name, num_classes=classes, dtype=dtype, **fields)
    inputs = jaxvision.Inputs((side, side), resize="stretch")
    record = {"image": np.zeros((side, side, 3), np.uint8), "label": 0}
    if kind == "segmentation":
        task = tasks.segmentation(model, inputs, class_names=classes)
        record = {**record, "labels": np.zeros((side, side), np.uint8)}
        example = data.ToSegmentation(inputs, classes)(record, "")
    else:
        task = tasks.classification(model, inputs, class_names=classes)
        example = data.ToClassification(inputs, classes)(record, "")
    count = (batch_size or usual) * target.devices
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *np.shape(x)), np.asarray(x).dtype), example
    )
    return task, batch


def training_step(name, target, **fields):
    target = planning.parse_target(target)
    task, batch = task_and_batch(name, target=target, **fields)
    optimizer = optax.sgd(0.1, momentum=0.9)
    found = planning.plan(task, optimizer, batch, target=target, largest_batch=False)
    step = found.train
    print(name, fields, f"{step.cost.nbytes:.4g} {step.memory.temporaries:.4g}", step.cost.traffic)
    return step


@for_gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_costs_an_h200_no_more_than_plain_flax(name):
    _, _, most_bytes, most_memory = NETWORKS[name]
    ours = training_step(name, "gpu-h200:1")
    with ops.library_forms():
        fields = {} if name == "vit_b_16" else {"norm": flax_batch_norm}
        plain = training_step(name, "gpu-h200:1", **fields)
    assert ours.cost.nbytes <= most_bytes * plain.cost.nbytes
    assert ours.memory.temporaries <= most_memory * plain.memory.temporaries
    assert set(ours.cost.dtypes["convolutions"]) <= {"bfloat16"}
    assert set(ours.cost.dtypes["matrix products"]) <= {"bfloat16"}
    assert ours.cost.host_calls == ours.cost.conditionals == ours.cost.loops == 0
    # Weights may change their layout, and attention moves its heads; maps of a batch may not.
    maps = [x for x in ours.cost.transposed if NETWORKS[name][1] in x.sides and x.nbytes > 1e6]
    assert name == "vit_b_16" or not maps


# Target -> all-reduces of a step at most. XLA for GPUs combines arrays of up to 30 MB in all.
ALL_REDUCES = {"gpu-h200:8": 5, "tpu-v5e:2x2": 3}


@pytest.mark.parametrize(
    "name",
    [pytest.param("gpu-h200:8", marks=for_gpu), pytest.param("tpu-v5e:2x2", marks=for_tpu)],
)
def test_norms_of_each_device_need_few_all_reduces(name):
    target, found = planning.parse_target(name), {}
    inputs = jaxvision.Inputs((64, 64), resize="stretch")
    example = data.ToClassification(inputs, CLASSES)({"image": BLANK, "label": 0}, "")
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((8 * target.devices, *np.shape(x)), x.dtype), example
    )
    model = jaxvision.create_model("resnet50", num_classes=CLASSES, dtype=jnp.bfloat16)
    for synchronised in (True, False):
        task = tasks.classification(
            model, inputs, class_names=CLASSES, sync_batch_norm=synchronised
        )
        how = {"target": target, "largest_batch": False}
        step = planning.plan(task, optax.sgd(0.1), batch, **how).train
        found[synchronised] = {x.kind: x for x in step.cost.collectives}["all-reduce"]
    print(found)
    assert found[True].count > 90
    assert found[False].count <= ALL_REDUCES[name]


@for_gpu
def test_recomputation_saves_memory_on_several_gpus():
    """In processes of their own, because XLA reads its flags once."""
    found = []
    for remat in (False, True):
        command = [sys.executable, "-m", "jaxvision", "plan", "--config=digits_resnet20", "--json"]
        command += ["--target=gpu-h200:2", "--noevaluation", "--nolargest_batch"]
        command += ["--config.batch_size=16384", f"--config.remat={remat}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout)["train"]["memory"]["temporaries"])
    print(found)
    assert found[1] < 0.6 * found[0]
