"""Plans every full-size config for H200s, and some for TPUs; prints the tables of
accelerators.md, memory.md and scale.md.

  python docs/make_accelerators.py --workdir runs/plans [--only TABLE]

It takes hours on 2 cores, and needs `pip install 'jaxvision[plan-cuda,plan-tpu]'`. A plan that is
finished has a file in --workdir and is not made again, so the command goes on where it was stopped.
No GPU or TPU is needed.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxvision import ops, planning
from jaxvision.core.files import replacing
from jaxvision.ops import suppression

H200, V5E = "gpu-h200:8", "tpu-v5e:2x2"
FULL_SIZE = (
    *("imagenet_resnet50_bfloat16", "imagenet_resnet50", "imagenet_darknet19"),
    *("coco_yolov3", "coco_yolov4", "voc_yolov2", "voc_yolov3"),
    *("coco_ssd300", "voc_ssd300", "coco_ssdlite320"),
    *("coco_retinanet", "coco_retinanet_v2", "coco_fcos"),
    *("coco_faster_rcnn", "coco_mask_rcnn", "coco_keypoint_rcnn", "voc_faster_rcnn"),
    *("voc_fcn8s", "voc_deeplabv3", "folder_unet"),
)
SOME = ("imagenet_resnet50_bfloat16", "coco_yolov3", "coco_mask_rcnn", "folder_unet")
"""For which the largest batch is looked for, and that are planned for TPUs too."""
SCALES = "gpu-h200:8", "gpu-h200:8x8", "gpu-h200:32x8"
PER_DEVICE = 128  # images, of the table of scales
TILES = 1024, 2048, 4096
BATCHES = {"voc_faster_rcnn": 16, "voc_fcn8s": 24}
"""Of the configs with a batch that eight devices do not divide."""


def flags_of(name):
    """The flags of a config's plan for H200s."""
    batch = (f"--config.batch_size={BATCHES[name]}",) if name in BATCHES else ()
    return (*batch, *(() if name in SOME else ("--nolargest_batch",)))


PLANS = [
    *((H200, name, flags_of(name)) for name in FULL_SIZE),
    *((V5E, name, ("--nolargest_batch",)) for name in SOME),
]
TITLES = (
    *("config", "batch", "memory", "temporaries", "TFLOP", "GB moved", "collectives", "compute"),
    *("traffic", "network", "images/s", "largest batch"),
)


def planned(target, name, more, workdir):
    """The plan of a config, from its file in the workdir, or made and kept there."""
    keys = "".join(f"_{key.partition('.')[2]}" for key in more if key.startswith("--config."))
    file = workdir / f"{name}_{target.replace(':', '_')}{keys}.json"
    if not file.exists():
        command = [sys.executable, "-m", "jaxvision", "plan", f"--config={name}"]
        command += [f"--target={target}", "--json", "--noevaluation", *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return None
        with replacing(file) as stream:
            stream.write(done.stdout)
    return json.loads(file.read_text())


def row(name, plan):
    """A line of the table: what a training step needs of each device."""
    step = plan["train"]
    collectives = [f"{x['count']} {x['kind']}" for x in step["cost"]["collectives"]]
    largest = plan["largest_batch"]
    cells = [
        f"`{name}`",
        f"{step['batch_size']:,}",
        f"{step['memory']['total'] / 1e9:.1f}",
        f"{step['memory']['temporaries'] / 1e9:.1f}",
        f"{sum(step['flops'].values()) / 1e12:.2f}",
        f"{sum(step['cost']['traffic'].values()) / 1e9:.1f}",
        ", ".join(collectives) or "none",
        *(f"{1e3 * step['seconds'][x]:.1f}" for x in ("compute", "memory", "network")),
        f"{step['most_images_per_second']:,.0f}",
        "" if largest is None else f"{largest:,}",
    ]
    return f"| {' | '.join(cells)} |"


def print_remat(workdir):
    """The table of what recomputation by block makes of a training step."""
    titles = "config", "images of a device", "memory, GB", "temporaries, GB", "TFLOP", "GB moved"
    print(f"## remat\n\n| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)
    for name in SOME:
        plain = planned(H200, name, (), workdir)
        again = planned(H200, name, ("--nolargest_batch", "--config.remat=True"), workdir)
        steps = [plan["train"] for plan in (plain, again)]
        devices = planning.parse_target(H200).devices
        pairs = (
            [step["memory"]["total"] / 1e9 for step in steps],
            [step["memory"]["temporaries"] / 1e9 for step in steps],
            [sum(step["flops"].values()) / 1e12 for step in steps],
            [sum(step["cost"]["traffic"].values()) / 1e9 for step in steps],
        )
        cells = (f"{before:.1f}, {after:.1f}" for before, after in pairs)
        images = steps[0]["batch_size"] // devices
        print(f"| {' | '.join((f'`{name}`', str(images), *cells))} |", flush=True)
    print()


def print_scale(workdir):
    """The table of what a step of ResNet-50 sends, by the number of devices."""
    titles = "devices", "norms", "all-reduces", "MB given", "MB sent", "network, ms", "memory, ms"
    print(f"## scale\n\n| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)
    for target in SCALES:
        devices = planning.parse_target(target).devices
        for norms, sync in ("of all devices", True), ("of each device", False):
            more = f"--config.batch_size={PER_DEVICE * devices}", f"--config.sync_batch_norm={sync}"
            plan = planned(target, SOME[0], ("--nolargest_batch", *more), workdir)
            step = plan["train"]
            (found,) = step["cost"]["collectives"]
            given, seconds = found["nbytes"] / 1e6, step["seconds"]
            sent = 2 * given * (devices - 1) / devices
            cells = f"{devices:,}", norms, found["count"], f"{given:.1f}", f"{sent:.1f}"
            times = (f"{1e3 * seconds[x]:.2f}" for x in ("network", "memory"))
            print(f"| {' | '.join(map(str, (*cells, *times)))} |", flush=True)
    print()


def print_nms():
    """The table of non-maximum suppression: what the compiled program holds, by the tile."""
    target = planning.parse_target("gpu-h200")
    device = SingleDeviceSharding(planning.devices_of(target)[0])
    print("## nms\n\n| boxes | tile | steps at most | kernels | loops | temporaries, MB |")
    print("|---" * 6 + "|")
    for batch, count in ((), 1024), ((), 4096), ((), 10_000), ((64,), 4700):
        for tile in TILES:
            if tile // 2 >= count:
                continue  # a tile has no more than all boxes
            jax.clear_caches()
            suppression._ACCELERATOR_TILE = tile

            def run(boxes, scores):
                return ops.nms(boxes, scores, iou_threshold=0.5, max_detections=1000)

            arrays = [
                jax.ShapeDtypeStruct((*batch, count, *last), jnp.float32, sharding=device)
                for last in ((4,), ())
            ]
            lowered = jax.jit(jax.vmap(run) if batch else run).lower(*arrays)
            compiled = lowered.compile(compiler_options=dict(planning.compiler_options(target)))
            cost = planning.cost_of(planning.parse_program(compiled.as_text()))
            megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
            size = " x ".join(f"{side:,}" for side in (*batch, count))
            cells = size, f"{tile:,}", -(-count // tile), cost.kernels, cost.loops
            print(f"| {' | '.join(map(str, cells))} | {megabytes:,.1f} |", flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--only", choices=[H200, V5E, "remat", "scale", "nms"], help="one")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    # A machine's own accelerator is not needed.
    jax.config.update("jax_platforms", "cpu")
    failed = []
    if options.only in (None, "nms"):
        print_nms()
    if options.only in (None, "scale"):
        print_scale(options.workdir)
    if options.only in (None, "remat"):
        print_remat(options.workdir)
    for target in (H200, V5E):
        if options.only not in (None, target):
            continue
        print(f"## {target}\n\n| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|", flush=True)
        for _, name, more in (plan for plan in PLANS if plan[0] == target):
            plan = planned(target, name, more, options.workdir)
            if plan is None:
                failed.append(name)
            else:
                print(row(name, plan), flush=True)
        print()
    if failed:
        sys.exit(f"error: no plan of {', '.join(failed)}")


if __name__ == "__main__":
    main()
