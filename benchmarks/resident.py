"""The resident memory of this process, and its peak. Linux only."""

import ctypes
import gc
from pathlib import Path


def memory_of_process() -> tuple[int, int]:
    """Returns the resident bytes now, and their peak since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return tuple(1024 * int(values[name].split()[0]) for name in ("VmRSS", "VmHWM"))


def reset_peak() -> None:
    """Returns freed memory to the system, as its reuse would not be seen, and resets the peak."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
