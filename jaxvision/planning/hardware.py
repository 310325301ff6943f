"""What devices can do, and how a set of them is named: `gpu-h200:8`, `tpu-v5e:4x4`, `cpu:4`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from jaxvision.core import OptionError, close_names

GB = 10**9


@dataclass(frozen=True)
class Hardware:
    """A kind of device.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      title: for people.
      memory: bytes of a device; None: not known.
      bandwidth: bytes a second between a device and its memory; None: not known.
      peak: dtype -> FLOP/s of convolutions and matrix products of that dtype; {}: not known.
      link: bytes a second that a device sends to others nearby; None: not known.
      network: bytes a second that a device sends to those of other hosts; None: as `link`.
    """

    platform: str
    title: str
    memory: int | None = None
    bandwidth: float | None = None
    peak: Mapping[str, float] | None = None
    link: float | None = None
    network: float | None = None


def _tpu(title: str, peak: float, bandwidth: float, memory: int, link: float) -> Hardware:
    # A product of float32 is one pass in bfloat16 there, unless a higher precision is asked for.
    peaks = {"bfloat16": peak, "float32": peak}
    return Hardware("tpu", title, memory * GB, bandwidth * GB, peaks, link * GB)


HARDWARE: dict[str, Hardware] = {
    "cpu": Hardware("cpu", "CPU"),
    # Datasheet: dense; float32 as TF32; NVLink one way; InfiniBand of 400 Gbit/s a GPU.
    "gpu-h200": Hardware(
        platform="gpu",
        title="NVIDIA H200",
        memory=141 * GB,
        bandwidth=4800 * GB,
        peak={"bfloat16": 989e12, "float16": 989e12, "float32": 494e12, "float64": 67e12},
        link=450 * GB,
        network=50 * GB,
    ),
    # Google's pages of the three: links are all of a chip's together, one way.
    "tpu-v5e": _tpu("TPU v5e", 197e12, 819, 16, 200),
    "tpu-v5p": _tpu("TPU v5p", 459e12, 2765, 95, 600),
    "tpu-v6e": _tpu("TPU v6e", 918e12, 1600, 32, 400),
}
"""Name -> what a device of this kind can do, by its maker's datasheet."""

_FORMS = {
    "cpu": "DEVICES, as cpu:4",
    "gpu": "DEVICES or HOSTSxDEVICES, as gpu-h200:8 or gpu-h200:4x8",
    "tpu": "the form of a slice, as tpu-v5e:4x4 or tpu-v5p:2x2x1",
}


@dataclass(frozen=True)
class Target:
    """A set of devices to compile for.

    Attributes:
      name: a key of `HARDWARE`.
      sides: of a GPU, (hosts, devices of a host); of a TPU, the sides of the slice; of a CPU,
        (devices,).
    """

    name: str
    sides: tuple[int, ...]

    @property
    def hardware(self) -> Hardware:
        """What each device can do."""
        return HARDWARE[self.name]

    @property
    def devices(self) -> int:
        """How many there are."""
        return math.prod(self.sides)

    @property
    def link(self) -> float | None:
        """Bytes a second that a device sends in a collective over all devices."""
        over_hosts = self.hardware.platform == "gpu" and self.sides[0] > 1
        return (over_hosts and self.hardware.network) or self.hardware.link

    def __str__(self) -> str:
        sides = self.sides
        if self.hardware.platform == "gpu" and sides[0] == 1:
            sides = sides[1:]
        return f"{self.name}:{'x'.join(map(str, sides))}"


def parse_target(text: str) -> Target:
    """The target that a text names.

    Args:
      text: KIND:SIZE, such as "gpu-h200:8", "gpu-h200:4x8" (hosts x devices), "tpu-v5e:4x4", or
        "cpu:4". Without a size it is one device; of a TPU 1x1, or 1x1x1 for v5p.
    Raises:
      OptionError: there is no such kind, or the size has another form.
    """
    name, _, size = text.partition(":")
    if name not in HARDWARE:
        raise OptionError(
            "target", f"target is {text!r}, of an unknown kind: {close_names(name, HARDWARE)}"
        )
    platform = HARDWARE[name].platform
    axes = {"cpu": (1,), "gpu": (1, 2), "tpu": (3,) if name == "tpu-v5p" else (2,)}[platform]
    size = size or "x".join("1" * axes[-1])
    sides = tuple(map(int, size.split("x"))) if re.fullmatch(r"\d+(x\d+)*", size) else ()
    if platform == "gpu" and len(sides) == 1:
        sides = (1, *sides)
    if len(sides) != axes[-1] or 0 in sides:
        raise OptionError("target", f"target is {text!r}: after {name}: give {_FORMS[platform]}")
    return Target(name, sides)
