"""Compares the memory of a training step of Faster R-CNN with torchvision's, on a CPU.

  python benchmarks/memory.py [--height 800] [--width 1333] [--objects 5] [--steps 2]

Both networks are fasterrcnn_resnet50_fpn with random weights, frozen norms, and three stages of the
backbone that are trained; the batch is one float32 image, and the optimizer is SGD with momentum
and weight decay. "compiled" is what XLA plans for our step: its arguments (parameters, momentum and
batch), results that do not replace arguments, and temporary arrays; it omits what single operations
need while they run. "resident" is the peak of the process's resident memory in --steps steps above
that before the network and the optimizer exist; ours has been compiled by then. "x" is our number
divided by torchvision's resident one. Each side runs in a process of its own. "largest temporaries"
are the arrays within our program that take most, and how many operations have such a result.

A torchvision without compiled operators gets those of tests/models/torchvision_ops.py, and the
output says so. Its RoIAlign makes two matrix products for each RoI, keeps nothing but the RoIs for
the gradient, which it adds to one array of each map's size, as the compiled one does.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from resident import memory_of_process, reset_peak
from timing import machine

NAME = "fasterrcnn_resnet50_fpn"
STAGES = 3
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 1e-4
CLASSES = 90
# To which our images are padded, and to which torchvision's are.
MULTIPLE = 32
# Torchvision's operators in the tests.
sys.path.insert(0, str(Path(__file__).parents[1]))


def objects_of(options):
    """(boxes f32[G, 4], labels i64[G] from 0) of the image."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = np.array([options.width, options.height])
    sides = rng.uniform(0.1, 0.4, (options.objects, 2)) * size
    corners = rng.uniform(0, 1, sides.shape) * (size - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, options.objects)


def our_batch(options):
    """The host's batch of one image, padded as in training."""
    import numpy as np

    from jaxvision.core import DetectionBatch

    found, of_found = objects_of(options)
    count = max(options.max_boxes, len(found))
    boxes, labels = np.zeros((1, count, 4), np.float32), np.zeros((1, count), np.int32)
    boxes[0, : len(found)], labels[0, : len(found)] = found, of_found
    mask = np.arange(count)[None] < len(found)
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in (options.height, options.width))
    image = np.zeros((1, height, width, 3), np.uint8)
    pixels = np.random.default_rng(1).integers(0, 256, (options.height, options.width, 3))
    image[0, : options.height, : options.width] = pixels
    return DetectionBatch(
        image=image,
        boxes=boxes,
        labels=labels,
        box_mask=mask,
        crowd=np.zeros_like(mask),
        difficult=np.zeros_like(mask),
        mask=np.ones(1, bool),
        extent=np.array([[options.height, options.width]], np.int32),
    )


def measure_ours(options):
    import jax

    jax.config.update("jax_platforms", "cpu")
    import optax

    import jaxvision
    from jaxvision import engine, tasks
    from jaxvision.models import create_model, input_figures

    mean, std = input_figures(NAME)
    inputs = jaxvision.Inputs(
        resize="shorter_side",
        shorter_side=options.height,
        longer_side=options.width,
        shapes="buckets",
        mean=mean,
        std=std,
    )
    detector = tasks.detectors.faster_rcnn(
        create_model(NAME, num_classes=CLASSES), trainable_backbone_layers=STAGES
    )
    task = tasks.detection(detector, inputs, class_names=CLASSES)
    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY, mask=engine.decay_mask),
        optax.sgd(LEARNING_RATE, momentum=MOMENTUM),
    )
    phase = engine.Phase(optimizer, freeze=task.freeze)
    parallel = engine.Parallel(devices=jax.devices()[:1])
    update = engine.make_update(task, phase, parallel=parallel)
    batch, seed = parallel.shard(our_batch(options)), engine.seed_array(0)
    step = update.lower(engine.abstract_state(task, phase), batch, seed).compile()
    sizes = step.memory_analysis()
    parts = {
        "arguments": sizes.argument_size_in_bytes,
        "further results": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
    }
    found = {"parts": parts, "largest": largest_arrays(step.as_text())}
    reset_peak()
    before, _ = memory_of_process()
    state = parallel.replicate(engine.init_state(task, phase, 0))
    record = {}
    reset_peak()
    for _ in range(options.steps):
        began = time.perf_counter()
        state, record = jax.block_until_ready(step(state, batch, seed))
        found["seconds"] = time.perf_counter() - began
    found["resident"] = memory_of_process()[1] - before
    found["loss"] = float(record.get("loss", 0))
    found["machine"] = machine("torch", "torchvision")
    return found


def largest_arrays(program, count=5):
    """The largest results of the operations of a program's main computation, as text."""
    main = program[program.index("\nENTRY") :]
    lengths = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "pred": 1, "u8": 1}
    found = Counter()
    for kind, shape, operation in re.findall(
        r"^ +%\S+ = (\w+)\[([\d,]+)\]\S* ([\w-]+)\(", main, re.M
    ):
        if operation in ("parameter", "bitcast", "call"):  # no array of their own
            continue
        size = lengths.get(kind, 4)
        for side in shape.split(","):
            size *= int(side)
        found[size, f"{kind}[{shape}]"] += 1
    most = sorted(found, reverse=True)[:count]
    return [f"{found[key]} x {key[1]} of {key[0] / 1e6:.0f} MB" for key in most]


def measure_theirs(options):
    operators = operators_of_torchvision()
    from tests.models.torchvision_ops import import_detection

    torch, faster_rcnn = import_detection("faster_rcnn")
    _, backbones = import_detection("backbone_utils")
    reset_peak()
    before, _ = memory_of_process()
    torch.manual_seed(0)
    # As its builder does if weights are asked for, which have frozen norms.
    body = backbones.resnet.resnet50(norm_layer=backbones.misc_nn_ops.FrozenBatchNorm2d)
    network = faster_rcnn.FasterRCNN(
        backbones._resnet_fpn_extractor(body, STAGES),
        num_classes=CLASSES + 1,
        min_size=options.height,
        max_size=options.width,
    ).train()
    trained = [values for values in network.parameters() if values.requires_grad]
    optimizer = torch.optim.SGD(
        trained, LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    image = torch.rand(3, options.height, options.width)
    boxes, labels = map(torch.from_numpy, objects_of(options))
    found = {"operators": operators}
    for _ in range(options.steps):
        began = time.perf_counter()
        optimizer.zero_grad()
        losses = network([image], [{"boxes": boxes, "labels": labels + 1}])
        total = sum(losses.values())
        total.backward()
        optimizer.step()
        found["seconds"] = time.perf_counter() - began
    found["resident"] = memory_of_process()[1] - before
    found["loss"] = total.item()
    return found


def operators_of_torchvision():
    """Which NMS and RoIAlign it has."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        return "stand-ins of tests/models/torchvision_ops.py, because it came without its own"
    return "its own"


def in_process(side):
    command = [sys.executable, __file__, *sys.argv[1:], "--only", side]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=800, help="shorter side of the image")
    parser.add_argument("--width", type=int, default=1333)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--max-boxes", type=int, default=100, help="to which ours are padded")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--only", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure = measure_ours if options.only == "ours" else measure_theirs
        print(json.dumps(measure(options)))
        return

    print("| | MB | x |")
    print("|---|---|---|")
    rows, theirs = {}, None
    if all(map(importlib.util.find_spec, ("torch", "torchvision", "pytest"))):
        theirs = in_process("theirs")
        rows["torchvision, resident"] = theirs["resident"]
    ours = in_process("ours")
    rows["ours, compiled"] = sum(ours["parts"].values())
    rows["ours, resident"] = ours["resident"]
    for name, size in rows.items():
        ratio = f"{size / theirs['resident']:.2f}" if theirs else ""
        print(f"| {name} | {size / 1e6:,.0f} | {ratio} |")
    parts = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in ours["parts"].items())
    print(f"compiled: {parts}; largest temporaries: {', '.join(ours['largest'])}")
    seconds = f"last of {options.steps} steps: ours {ours['seconds']:.1f} s"
    if theirs is None:
        print("torchvision is not installed: its row is omitted")
    else:
        print(f"torchvision's NMS and RoIAlign: {theirs['operators']}")
        seconds += f", torchvision's {theirs['seconds']:.1f} s"
    print(seconds)
    print(
        f"{options.height} x {options.width} pixels, {options.objects} objects; {ours['machine']}"
    )


if __name__ == "__main__":
    main()
