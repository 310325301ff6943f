"""What the benchmarks share: interleaved timing, and the line that says where it was."""

import os
import platform
import statistics
import time
from importlib import metadata


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def machine(*packages: str) -> str:
    """Device, cores and versions of Python, JAX and other packages that are installed."""
    import jax

    versions = [f"Python {platform.python_version()}", f"jax {jax.__version__}"]
    for package in packages:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return f"{devices}, {os.cpu_count()} cores of {cpu_name()}; {', '.join(versions)}"


def median_ms(calls: dict, *, rounds: int, warmup: int = 2, settle: int = 0) -> dict:
    """Median milliseconds of each call; all are made in turn, round by round.

    Args:
      calls: name -> function without arguments that returns when its work is done.
      rounds: measured.
      warmup: rounds before, not measured.
      settle: calls right before each measured one. What needs much memory gets it back from the
        system after another has run, which takes longer than in a loop of its own.
    """
    times = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        # In turns of changing order, so that none always follows the same other.
        names = list(calls) if turn % 2 else list(reversed(calls))
        for name in names:
            for _ in range(settle):
                calls[name]()
            began = time.perf_counter()
            calls[name]()
            if turn >= warmup:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}
