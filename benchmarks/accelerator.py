"""Measures a GPU or TPU in parts of at most three minutes, beside torch, and writes JSON lines.

  python benchmarks/accelerator.py [--out=FILE.jsonl]               # all parts, 13 minutes at most
  python benchmarks/accelerator.py --part=resnet50 [--batch=256] [--compile] [--seconds=6]

Each row is printed and appended to --out as soon as it is known. Without --part each part runs in a
process of its own with a time limit, and one that fails leaves a row with "error". The parts:

  resnet50, yolov3, retinanet, mask_rcnn, unet
      The training step of a shipped config in bfloat16 on synthetic images on the device
      (augmentation, network, loss, gradients, optimizer), and the prediction from uint8 images to
      padded results. `images_per_s`; `share_of_peak` is the time that convolutions and products
      take at the device's peak, divided by the time of the step; `program_bytes` is the memory of
      the program, `peak_bytes` that of the process until then. Then torch's counterpart on images
      that are normalised already, without augmentation: channels last, autocast to bfloat16,
      `torch.compile` with --compile. `x_torch` is our throughput divided by torch's: above 1 ours
      is faster. YOLOv3 has no counterpart in torchvision.
  nms
      `jaxvision.ops.nms` of 1,000, 4,000 and 10,000 boxes, and of 64 images with 4,700 each, of
      which the best 1,000 are kept, beside torchvision's `nms` and `batched_nms`. `kept_equal`: the
      kept boxes are those of a loop in numpy.
  resume
      A run with config.deterministic is killed and goes on; `equal`: it ended with the same bits as
      one that was not killed.
  parity
      Logits of classifiers and detections of a RetinaNet, of random weights in float32, on the
      device and on its host's CPU; "differ" is the largest difference divided by the largest value.
      "highest" multiplies in float32, "default" as the device does by default.

--smallest takes tiny networks and images, for a CPU; its times mean nothing.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

# Else torch has no memory beside it, and the memory in use could not be told.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

SECONDS = {
    "resnet50": 120,
    "yolov3": 100,
    "retinanet": 120,
    "mask_rcnn": 160,
    "unet": 80,
    "nms": 60,
    "resume": 80,
    "parity": 80,
}
"""Part -> its time limit; 800 seconds in all."""


class Network(NamedTuple):
    """What a part measures.

    Attributes:
      config: its name.
      size: (height, width) of the images.
      batch: images in a batch.
      changes: key of the config -> value.
      torch: name of torch's counterpart; None: there is none.
    """

    config: str
    size: tuple[int, int]
    batch: int
    changes: dict[str, Any]
    torch: str | None


_BFLOAT16 = {"model.dtype": "bfloat16"}
_PHOTOGRAPH = (800, 1088)
NETWORKS = {
    "resnet50": Network("imagenet_resnet50_bfloat16", (224, 224), 256, {}, "resnet50"),
    "yolov3": Network("coco_yolov3", (416, 416), 64, _BFLOAT16, None),
    "retinanet": Network("coco_retinanet", _PHOTOGRAPH, 16, _BFLOAT16, "retinanet_resnet50_fpn"),
    "mask_rcnn": Network("coco_mask_rcnn", _PHOTOGRAPH, 16, _BFLOAT16, "maskrcnn_resnet50_fpn"),
    "unet": Network("folder_unet", (256, 256), 64, _BFLOAT16, "unet"),
}


def _thin(*levels: int) -> dict[str, Any]:
    return {"name": "plain_darknet", "stages": tuple((x, ((4, 3),)) for x in levels)}


_TINY = {"model.backbone": _thin(0, 1, 2, 3), "model.features": 8, "data.image_size": 32}
SMALLEST = {
    "resnet50": Network(
        "imagenet_resnet50",
        (32, 32),
        2,
        {"model.name": "resnet18", "data.image_size": 32},
        "resnet18",
    ),
    "yolov3": Network(
        "scenes_yolov3_tiny",
        (32, 32),
        2,
        {
            "model.backbone": _thin(0, 1, 2, 3, 4),
            "model.scales": ((4, None, ((4, 1),), 4), (3, 4, ((4, 1),), 4)),
            "data.image_size": 32,
        },
        None,
    ),
    "retinanet": Network("scenes_retinanet", (32, 32), 2, _TINY, None),
    "mask_rcnn": Network("scenes_mask_rcnn", (32, 32), 2, _TINY, None),
    "unet": Network(
        "folder_unet", (32, 32), 2, {"model.widths": (4, 6), "data.image_size": 32}, "unet"
    ),
}


class Rows:
    """Prints rows, and appends them to a file.

    Args:
      part: of the rows.
      out: the file, or None.
    """

    def __init__(self, part: str, out: pathlib.Path | None):
        self._part, self._out = part, out

    def add(self, what: str, **values: Any) -> None:
        """Adds a row; numbers have four digits, and what is None is left out."""
        rounded = {
            key: float(f"{x:.4g}") if isinstance(x, float) else x
            for key, x in values.items()
            if x is not None
        }
        line = json.dumps({"part": self._part, "what": what, **rounded})
        print(line, flush=True)
        if self._out is not None:
            with self._out.open("a") as file:
                file.write(f"{line}\n")

    def add_machine(self) -> None:
        """Adds a row that describes the device and the versions."""
        import jax
        from timing import machine

        self.add(
            "machine",
            device=jax.devices()[0].device_kind,
            platform=jax.default_backend(),
            text=machine("torch", "torchvision"),
        )


def measure_network(rows: Rows, asked: argparse.Namespace) -> None:
    """A training step and a prediction of a config, beside torch's."""
    from on_device import Steps, steps_per_second, torchs

    network = (SMALLEST if asked.smallest else NETWORKS)[asked.part]
    batch = asked.batch or network.batch
    steps = Steps(network.config, network.changes, network.size, batch)
    dtype = steps.config.model.get("dtype", "float32")
    form = {"batch": batch, "size": list(network.size), "dtype": dtype}
    ours = {}
    for way in ("predict", "train"):
        step, found = steps.prediction() if way == "predict" else steps.training()
        rate = steps_per_second(step, seconds=asked.seconds)
        ours[way] = batch * rate
        peak = found["peak_s"]
        rows.add(
            way,
            config=network.config,
            **form,
            images_per_s=ours[way],
            compile_s=found["compile_s"],
            share_of_peak=None if peak is None else peak * rate,
            **found["memory"](),
        )
        del step, found
    if network.torch is None:
        return
    try:
        theirs = torchs(
            network.torch,
            steps.batch,
            classes=len(steps.task.class_names),
            widths=steps.config.model.get("widths", (64, 128, 256, 512, 1024)),
            dtype=dtype,
            compiled=asked.compile,
        )
        for way in ("predict", "train"):
            step = theirs.prediction() if way == "predict" else theirs.training()
            theirs.peak_bytes()
            rate = batch * steps_per_second(step, seconds=asked.seconds)
            rows.add(
                f"{way}, torch",
                network=network.torch,
                **form,
                compiled=asked.compile,
                images_per_s=rate,
                x_torch=ours[way] / rate,
                peak_bytes=theirs.peak_bytes(),
            )
    except Exception as error:  # whatever torch raises: ours are measured all the same
        rows.add("torch", error=f"{type(error).__name__}: {error}".splitlines()[0])


def measure_nms(rows: Rows, asked: argparse.Namespace) -> None:
    """Suppression of one image and of a batch, beside torchvision's."""
    import jax
    import numpy as np
    from nms import IOU_THRESHOLD, make_boxes, numpy_loop
    from on_device import Measured, memory_of, steps_per_second

    from jaxvision.ops import nms

    sizes, batch = ((64, 100), (2, 90)) if asked.smallest else ((1000, 4000, 10_000), (64, 4700))
    for images, count in (*((1, size) for size in sizes), batch):
        boxes, scores = make_boxes("spread", images, count)
        limit = count if images == 1 else min(1000, count)
        keep = functools.partial(nms, iou_threshold=IOU_THRESHOLD, max_detections=limit)
        arrays = jax.device_put((boxes, scores))
        began = time.perf_counter()
        compiled = jax.jit(jax.vmap(keep)).lower(*arrays).compile()
        seconds, last = time.perf_counter() - began, [None]

        def start(compiled: Any = compiled, arrays: Any = arrays, last: Any = last) -> None:
            last[0] = compiled(*arrays)

        def wait(last: Any = last) -> None:
            jax.block_until_ready(last[0])

        rate = steps_per_second(Measured(start, wait), seconds=asked.seconds / 3)
        index, valid = (np.asarray(x[0]) for x in last[0])
        wanted = np.asarray(numpy_loop(boxes[0], scores[0]))
        form = {"images": images, "boxes": count}
        rows.add(
            "nms",
            **form,
            max_detections=limit,
            ms=1e3 / rate,
            compile_s=seconds,
            kept=len(wanted),
            kept_equal=bool(np.array_equal(index[valid], wanted[:limit])),
            **memory_of(compiled),
        )
        theirs = torchvision_nms(boxes, scores, IOU_THRESHOLD)
        if theirs is None:
            rows.add("nms, torchvision", **form, error="its compiled operators are missing")
        else:
            other = steps_per_second(Measured(*theirs), seconds=asked.seconds / 3)
            rows.add("nms, torchvision", **form, ms=1e3 / other, x_torch=rate / other)


def torchvision_nms(boxes: Any, scores: Any, threshold: float) -> tuple[Any, Any] | None:
    """(start, wait) of torchvision's suppression; None where it cannot run."""
    try:
        import torch
        from torchvision.ops import batched_nms, nms

        device = "cuda" if torch.cuda.is_available() else "cpu"
        flat = torch.from_numpy(boxes.reshape(-1, 4)).to(device)
        values = torch.from_numpy(scores.reshape(-1)).to(device)
        images = torch.arange(len(boxes), device=device).repeat_interleave(boxes.shape[1])

        def start() -> None:
            if len(boxes) == 1:
                nms(flat, values, threshold)
            else:
                batched_nms(flat, values, images, threshold)

        start()
    except (ImportError, RuntimeError, NotImplementedError, AttributeError):
        return None
    return start, torch.cuda.synchronize if device == "cuda" else lambda: None


def measure_resume(rows: Rows, asked: argparse.Namespace) -> None:
    """Kills a run, lets it go on, and compares it with one that was not killed."""
    small = ["--config.model.blocks=1", "--config.model.widths=(4,)", "--config.data.image_size=8"]
    steps, every = (40, 5) if asked.smallest else (1000, 100)
    options = ["--config=digits_resnet20", "--config.deterministic=True"]
    options += [f"--config.steps={steps}", f"--config.eval_every={steps}"]
    options += [f"--config.checkpoint_every={every}", *(small if asked.smallest else [])]

    def started(workdir: pathlib.Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "jaxvision", "train", *options, f"--workdir={workdir}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result_of(process: subprocess.Popen) -> tuple[dict[str, Any], str]:
        out, err = process.communicate()
        if process.returncode:
            raise SystemExit(f"the run failed:\n{err}")
        return json.loads(out), err

    with tempfile.TemporaryDirectory() as folder:
        one, two = pathlib.Path(folder, "one"), pathlib.Path(folder, "two")
        whole, _ = result_of(started(one))
        process, metrics = started(two), two / "metrics.jsonl"
        while process.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") > 2 * every:
                process.kill()
            time.sleep(0.002)
        process.communicate()
        killed = process.returncode == -signal.SIGKILL
        resumed, err = result_of(started(two))
        after = re.search(r"resuming the run .* after step (\d+)", err)
        rows.add(
            "resume",
            steps=steps,
            killed=killed,
            resumed_after=int(after[1]) if after else None,
            equal=resumed == whole,
            state_digest=whole["state_digest"],
            metrics_equal=(one / "metrics.jsonl").read_text() == metrics.read_text(),
        )


CLASSIFIERS = ("resnet50", "mobilenet_v2", "densenet121", "vit_b_16", "convnext_tiny")


def measure_parity(rows: Rows, asked: argparse.Namespace) -> None:
    """Logits and detections on the device and on the CPU."""
    import jax
    import numpy as np
    from on_device import Steps, image_batch, largest_difference, matched

    from jaxvision.models import create_model
    from jaxvision.tasks.inference import outputs_of

    devices = {"device": jax.devices()[0], "cpu": jax.devices("cpu")[0]}

    def on_both(function: Any, *arguments: Any) -> dict[str, Any]:
        """The results of the CPU, and of the device in both precisions."""
        results = {}
        for name, where, precision in (
            ("cpu", "cpu", "highest"),
            ("highest", "device", "highest"),
            ("default", "device", "default"),
        ):
            with jax.default_matmul_precision(precision), jax.default_device(devices[where]):
                # A function of its own: one is traced once, whatever the precision is then.
                run = jax.jit(lambda *x: function(*x))
                placed = jax.device_put(arguments, devices[where])
                results[name] = jax.device_get(run(*placed))
        return results

    rng = np.random.default_rng(0)
    size, batch = (32, 2) if asked.smallest else (224, 8)
    for name in ("squeezenet1_1",) if asked.smallest else CLASSIFIERS:
        model = create_model(name, num_classes=1000)
        images = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
        init = jax.jit(functools.partial(model.init, train=False))
        variables = jax.device_get(init(jax.random.key(0), images[:1]))

        def logits(variables: Any, images: Any, model: Any = model) -> Any:
            return model.apply(variables, images, train=False)["logits"]

        found = on_both(logits, variables, images)
        for precision in ("highest", "default"):
            differ = largest_difference(found[precision], found["cpu"])
            rows.add("logits", network=name, precision=precision, batch=batch, differ=differ)

    network = SMALLEST["retinanet"] if asked.smallest else NETWORKS["retinanet"]
    changes = {**network.changes, "model.dtype": "float32", "detect.score_threshold": 0.0}
    size = network.size if asked.smallest else (512, 512)
    steps = Steps(network.config, changes, size, 2)
    variables, images = jax.device_get(steps.variables()), image_batch(steps.batch)

    def detections(variables: Any, images: Any) -> Any:
        outputs = outputs_of(steps.task, variables, images)
        return outputs, jax.vmap(steps.task.decode)(outputs, images)

    found = on_both(detections, variables, images)
    for precision in ("highest", "default"):
        maps, boxes = found[precision]
        differ = largest_difference(maps, found["cpu"][0])
        how_far = matched(boxes, found["cpu"][1])
        rows.add(
            "detections", network=network.config, precision=precision, differ=differ, **how_far
        )


MEASURES = {
    **dict.fromkeys(NETWORKS, measure_network),
    "nms": measure_nms,
    "resume": measure_resume,
    "parity": measure_parity,
}


def run_parts(asked: argparse.Namespace, arguments: list[str]) -> None:
    """Runs each part in a process of its own, whatever becomes of the others."""
    for part, limit in SECONDS.items():
        command = [sys.executable, __file__, f"--part={part}", *arguments]
        process = subprocess.Popen(command, start_new_session=True)
        rows, began = Rows(part, asked.out), time.perf_counter()
        try:
            code = process.wait(timeout=asked.limit or limit)
            if code:
                rows.add("failed", error=f"exit code {code}")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # those that it started too
            process.wait()
            rows.add("failed", error=f"it took more than {asked.limit or limit} s")
        rows.add("done", seconds=time.perf_counter() - began)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=list(MEASURES), help="default: all, one after the other")
    parser.add_argument("--out", type=pathlib.Path, help="file to which rows are appended")
    parser.add_argument("--batch", type=int, help="images in a batch, of a part with a network")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--smallest", action="store_true", help="tiny networks and images")
    parser.add_argument("--limit", type=int, help="seconds of each part, where all run")
    arguments = sys.argv[1:] if arguments is None else arguments
    asked = parser.parse_args(arguments)
    if asked.part is None:
        run_parts(asked, arguments)
        return
    rows = Rows(asked.part, asked.out)
    if asked.part != "resume":  # whose processes need the device, which a TPU gives to one
        rows.add_machine()
    MEASURES[asked.part](rows, asked)
    if asked.part == "resume":
        rows.add_machine()


if __name__ == "__main__":
    main()
