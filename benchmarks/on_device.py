"""What `accelerator.py` measures: steps of configs on synthetic images, and networks of torch."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.cli import setup
from jaxvision.cli.config import find_config, load_config
from jaxvision.cli.optimizers import phases_of_config
from jaxvision.cli.plan import batch_of
from jaxvision.core import ImageBatch
from jaxvision.engine import Parallel, init_state, make_update, seed_array
from jaxvision.engine.phases import stages_of
from jaxvision.ops import box_iou
from jaxvision.planning import HARDWARE, flops_of, parse_program
from jaxvision.tasks.inference import predictions_of

OBJECTS = 8
"""In each image of a detector."""

_KINDS = {
    "NVIDIA H200": "gpu-h200",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5e": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v5p": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
    "TPU v6e": "tpu-v6e",
}
"""How JAX names a device -> its name in `jaxvision.planning.HARDWARE`."""


class Measured(NamedTuple):
    """A function that starts a step, and one that waits until the steps are done."""

    start: Callable[[], Any]
    wait: Callable[[], Any]


def steps_per_second(step: Measured, *, seconds: float, rounds: int = 3) -> float:
    """Returns the median rate over the rounds; the steps of a round are started without waiting.

    Args:
      step: what is measured; it runs twice before.
      seconds: that all rounds take together, at the least.
      rounds: how many.
    """
    for _ in range(2):
        began = time.perf_counter()
        step.start()
        step.wait()
    count = max(1, round(seconds / rounds / (time.perf_counter() - began)))
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            step.start()
        step.wait()
        rates.append(count / (time.perf_counter() - began))
    return statistics.median(rates)


def peak_seconds(lowered: Any) -> float | None:
    """The least seconds that convolutions and matrix products take; None on an unknown device.

    They are counted in the program before XLA changes it, two FLOPs for a multiply-add, so that
    what is frozen has no gradient, and regions count as often as they are read.
    """
    peak = HARDWARE[_KINDS.get(jax.devices()[0].device_kind, "cpu")].peak
    if not peak:
        return None
    flops = flops_of(parse_program(lowered.as_text(dialect="hlo")))
    return sum(count / peak.get(dtype, min(peak.values())) for dtype, count in flops.items())


def memory_of(compiled: Any) -> dict[str, int | None]:
    """Bytes that a program needs, and the most that the process has used so far.

    `program_bytes` are the arguments, temporaries and results beside the arguments' memory.
    """
    sizes = compiled.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
    needed += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    stats = jax.local_devices()[0].memory_stats() or {}
    return {"program_bytes": needed, "peak_bytes": stats.get("peak_bytes_in_use")}


class Steps:
    """The training step and the prediction of a config, without its data.

    Args:
      config: name of the config.
      changes: key of the config -> value.
      size: (height, width) of the images.
      batch_size: images in a batch.
    """

    def __init__(
        self, config: str, changes: Mapping[str, Any], size: tuple[int, int], batch_size: int
    ):
        self.config = load_config(find_config(config))
        self.config.update_from_flattened_dict({**changes, "batch_size": batch_size})
        data = self.config.data
        if not data.get("class_names", ()):
            data.class_names = setup.numbered(data.get("num_classes") or 2)
        built = setup.build(self.config)
        self.task = built.task
        self.parallel = Parallel(self.config.parallel, devices=jax.devices()[:1])
        phases, self._ema_decay = phases_of_config(self.config)
        self._phase = stages_of(phases, self.config.steps, freeze=self.task.freeze)[-1].phase
        shapes = batch_of(self.config, built, training=True)
        self.batch = synthetic(shapes, size, len(self.task.class_names))

    def variables(self) -> Any:
        """Random variables of the network."""
        return init_state(self.task, self._phase, 0).eval_variables

    def training(self) -> tuple[Measured, dict[str, Any]]:
        """The training step, and {"compile_s", "peak_s", ...} of it."""
        update = make_update(
            self.task, self._phase, parallel=self.parallel, ema_decay=self._ema_decay
        )
        state = self.parallel.replicate(
            init_state(self.task, self._phase, 0, ema_decay=self._ema_decay)
        )
        batch, seed = self.parallel.shard(self.batch), self.parallel.replicate(seed_array(0))
        compiled, found = _compiled(update, state, batch, seed)
        now = [state, None]

        def start() -> None:
            now[:] = compiled(now[0], batch, seed)

        def wait() -> None:
            loss = float(jax.device_get(now[1]["loss"]))
            if not np.isfinite(loss):
                raise SystemExit(f"the loss is {loss}")

        return Measured(start, wait), {**found, "memory": lambda: memory_of(compiled)}

    def prediction(self) -> tuple[Measured, dict[str, Any]]:
        """From uint8 images on the device to padded results, and what is known of it."""
        batch = jax.device_put(image_batch(self.batch))
        variables = self.variables()
        predict = jax.jit(lambda variables, batch: predictions_of(self.task, variables, batch))
        compiled, found = _compiled(predict, variables, batch)
        last = [None]

        def start() -> None:
            last[0] = compiled(variables, batch)

        def wait() -> None:
            jax.block_until_ready(last[0])

        return Measured(start, wait), {**found, "memory": lambda: memory_of(compiled)}


def _compiled(function: Any, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    lowered = function.lower(*arguments)
    began = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    return compiled, {"compile_s": seconds, "peak_s": peak_seconds(lowered)}


def image_batch(batch: Any) -> ImageBatch:
    """The images of a batch alone, as they come to a prediction."""
    count, height, width, _ = batch.image.shape
    sizes = np.tile(np.int32([height, width]), (count, 1))
    return ImageBatch(
        image=batch.image,
        mask=np.ones(count, bool),
        extent=sizes,
        placement=np.tile(np.float32([1, 1, 0, 0]), (count, 1)),
        size=sizes,
    )


def synthetic(shapes: Any, size: tuple[int, int], classes: int) -> Any:
    """A batch of random images and annotations, on the host.

    Args:
      shapes: shapes and dtypes of a batch struct.
      size: (height, width) of the images.
      classes: how many there are.
    """
    rng = np.random.default_rng(0)
    count, *_, channels = shapes.image.shape
    sides = np.float32([size[1], size[0]])
    lengths = rng.uniform(0.1, 0.4, (count, OBJECTS, 2)) * sides
    corners = rng.uniform(0, 1, lengths.shape) * (sides - lengths)
    boxes = np.concatenate([corners, corners + lengths], axis=-1).astype(np.float32)

    def of_objects(values: Any, name: str) -> np.ndarray:
        """Padded to the boxes of an image."""
        like = getattr(shapes, name)
        result = np.zeros(like.shape, like.dtype)
        result[:, : values.shape[1]] = values[:, : like.shape[1]]
        return result

    def filled(name: str, like: Any) -> np.ndarray:
        if name == "image":
            return rng.integers(0, 256, (count, *size, channels), np.uint8)
        if name in ("mask", "weight"):
            return np.ones(like.shape, like.dtype)
        if name == "label":
            return rng.integers(0, classes, like.shape).astype(like.dtype)
        if name in ("extent", "size"):
            return np.broadcast_to(np.array(size, like.dtype), like.shape)
        if name == "placement":
            return np.broadcast_to(np.array([1, 1, 0, 0], like.dtype), like.shape)
        if name == "labels" and not hasattr(shapes, "boxes"):  # of pixels
            return rng.integers(0, classes, (count, *size)).astype(like.dtype)
        values = {
            "boxes": boxes,
            "mask_frames": boxes,
            "labels": rng.integers(0, classes, (count, OBJECTS)),
            "box_mask": np.ones((count, OBJECTS), bool),
            "masks": rng.integers(0, 256, (count, OBJECTS, *like.shape[2:])),
            "area": lengths.prod(axis=-1),
        }
        return of_objects(values.get(name, np.zeros((count, OBJECTS))), name)

    given = {x.name: getattr(shapes, x.name) for x in dataclasses.fields(shapes)}
    return shapes.replace(
        **{name: filled(name, like) for name, like in given.items() if like is not None}
    )


class Torchs:
    """A network of torch on the device of JAX, in bfloat16 by autocast, with channels last.

    Args:
      network: of torch.
      loss: (network) -> the loss of a batch.
      predict: (network) -> anything; without gradients.
      dtype: "bfloat16", or "float32" without autocast.
      compiled: whether to use torch.compile.
    """

    def __init__(self, network: Any, loss: Any, predict: Any, *, dtype: str, compiled: bool):
        import torch

        self._torch, self._gpu = torch, torch.cuda.is_available()
        device = "cuda" if self._gpu else "cpu"
        network = network.to(device, memory_format=torch.channels_last)
        trained = [values for values in network.parameters() if values.requires_grad]
        self._optimizer = torch.optim.SGD(trained, 1e-4, momentum=0.9)
        self._network = torch.compile(network) if compiled else network
        self._loss, self._predict = loss, predict
        self._autocast = lambda: torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def variables(self) -> Any:
        """Random variables of the network."""
        return init_state(self.task, self._phase, 0).eval_variables

    def training(self) -> Measured:
        """A step: the loss, its gradients, and SGD with momentum."""
        self._network.train()

        def start() -> None:
            self._optimizer.zero_grad()
            with self._autocast():
                loss = self._loss(self._network)
            loss.backward()
            self._optimizer.step()

        return Measured(start, self._wait)

    def prediction(self) -> Measured:
        """The network in evaluation."""
        self._network.eval()

        def start() -> None:
            with self._torch.no_grad(), self._autocast():
                self._predict(self._network)

        return Measured(start, self._wait)

    def _wait(self) -> None:
        if self._gpu:
            self._torch.cuda.synchronize()

    def peak_bytes(self) -> int | None:
        """The most memory that torch has used since this was asked for last."""
        if not self._gpu:
            return None
        peak = self._torch.cuda.max_memory_allocated()
        self._torch.cuda.reset_peak_memory_stats()
        return peak


def torchs(
    name: str, batch: Any, *, classes: int, widths: Sequence[int], dtype: str, compiled: bool
) -> Torchs:
    """Torch's counterpart of a step, for the same batch, whose images are normalised already.

    Args:
      name: of torchvision's classifier or detector, or "unet".
      batch: of the library.
      classes: how many there are.
      widths: of a U-Net.
      dtype, compiled: as `Torchs` takes them.
    Raises:
      ImportError: torch or torchvision is not installed.
    """
    import torch
    from versus_torch import import_torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    images = torch.from_numpy(batch.image.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    images = images.to(device).contiguous(memory_format=torch.channels_last)

    def on_device(x: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(x)).to(device)

    def cross_entropy(labels: np.ndarray) -> Any:
        wanted = on_device(labels.astype(np.int64))
        return lambda network: torch.nn.functional.cross_entropy(network(images).float(), wanted)

    how = {"dtype": dtype, "compiled": compiled}
    if name == "unet":
        from segment import torch_unet

        loss = cross_entropy(batch.labels)
        return Torchs(torch_unet(widths), loss, lambda network: network(images), **how)
    models = import_torchvision("models")
    if models is None:
        raise ImportError("torchvision is not installed")
    if hasattr(batch, "label"):
        network = models.get_model(name, num_classes=classes)
        return Torchs(network, cross_entropy(batch.label), lambda network: network(images), **how)
    network = torchvision_detector(models, name, classes, tuple(batch.image.shape[1:3]))
    targets = []
    for index in range(len(images)):
        found = {"boxes": on_device(batch.boxes[index, :OBJECTS])}
        found["labels"] = on_device(batch.labels[index, :OBJECTS].astype(np.int64) + 1)
        if batch.masks is not None:
            shape = (OBJECTS, *batch.image.shape[1:3])
            found["masks"] = torch.ones(shape, dtype=torch.uint8, device=device)
        targets.append(found)
    return Torchs(
        network,
        lambda network: sum(network(list(images), targets).values()),
        lambda network: network(list(images)),
        **how,
    )


def torchvision_detector(models: Any, name: str, classes: int, size: tuple[int, int]) -> Any:
    """Torchvision's detector, with frozen norms and two frozen stages as with its weights."""
    detection = models.detection
    network = getattr(detection, name)(
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=min(size),
        max_size=max(size),
    )
    body = network.backbone.body
    for part, value in body.named_parameters():
        value.requires_grad = part.startswith(("layer2", "layer3", "layer4"))
    for module in body.modules():
        if type(module).__name__ == "BatchNorm2d":
            module.requires_grad_(False).eval()
            module.train = lambda mode=True, module=module: module  # it stays in evaluation
    return network


def largest_difference(ours: Any, reference: Any) -> float:
    """Largest difference of two trees, divided by the largest absolute value of an array."""
    worst = 0.0
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        one, other = (np.asarray(x, np.float64) for x in (one, other))
        largest = np.abs(other).max(initial=0)
        worst = max(worst, float(np.abs(one - other).max(initial=0) / max(largest, 1e-30)))
    return worst


def matched(found: Any, reference: Any, iou: float = 0.9) -> dict[str, float]:
    """How far the detections of a batch are apart.

    Args:
      found, reference: `Detections`, [B, N, ...].
      iou: two detections of one class are the same if their IoU is above.
    Returns:
      how many the reference has, the share of them that has one in `found`, and of these the
      largest difference of the scores and of the boxes, in pixels.
    """
    wanted = same = 0
    score = pixels = 0.0
    found, reference = (jax.tree.map(np.asarray, x) for x in (found, reference))
    for image in range(len(reference.valid)):
        one, other = (jax.tree.map(lambda x, i=image: x[i], x) for x in (found, reference))
        overlaps = np.asarray(box_iou(jnp.asarray(other.boxes), jnp.asarray(one.boxes)))
        equal = other.labels[:, None] == one.labels[None]
        overlaps = np.where(equal & one.valid[None] & other.valid[:, None], overlaps, 0)
        wanted += int(other.valid.sum())
        for mine, best in itertools.compress(enumerate(overlaps.argmax(axis=1)), other.valid):
            if overlaps[mine, best] > iou:
                same += 1
                score = max(score, abs(float(other.scores[mine] - one.scores[best])))
                pixels = max(pixels, float(np.abs(other.boxes[mine] - one.boxes[best]).max()))
    return {
        "detections": wanted,
        "matched": same / max(wanted, 1),
        "scores_differ": score,
        "boxes_differ_px": pixels,
    }
