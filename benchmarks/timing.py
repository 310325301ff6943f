"""Functions that the benchmarks share: interleaved timing, and a description of the machine."""

import os
import platform
import statistics
import time
from importlib import metadata


def cpu_name() -> str:
    """Returns the name of the processor from the operating system."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def machine(*packages: str) -> str:
    """Returns a line with the devices, cores and versions of Python, JAX and other packages."""
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
    """Measures the median milliseconds of each call. Each round makes all calls, one by one.

    Args:
      calls: name -> function without arguments that returns when its work is done.
      rounds: number of measured rounds.
      warmup: number of rounds before them that are not measured.
      settle: number of calls right before each measured one. They make the measured call as fast as
        in a loop of its own: after another function has run, the first call has to get its memory
        back from the operating system.
    """
    times = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        # The order alternates, so that no call always follows the same other call.
        names = list(calls) if turn % 2 else list(reversed(calls))
        for name in names:
            for _ in range(settle):
                calls[name]()
            began = time.perf_counter()
            calls[name]()
            if turn >= warmup:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}
