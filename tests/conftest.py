"""Settings of the whole suite: four CPU devices, strict ranks, a compilation cache."""

import ctypes
import gc
import importlib.metadata
import os
import pathlib
import tempfile

# Before JAX starts; processes that tests start inherit these, not the devices. Most of the time
# goes into tracing and compiling, so little is optimised, and what takes long to compile is cached;
# .ci/long runs its tests with an empty XLA_FLAGS, as users compile. The fusion emitters take
# another half of that time; other releases lack their switch, and abort on a flag that they do not
# know.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "jaxvision-test-cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault(
    "XLA_FLAGS",
    # A process compiles on one core: the others have processes of their own.
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
)

import jax
import pytest

from jaxvision.testing import TRANSFORMS, transformed
from tests.marks import slow_but
from tests.models.variables import FORGET, untraced_initialisers

# In all, 8 GB: a worker may take twice its share within one test, and not all do so at once.
MAX_WORKERS = 4
MEMORY_OF_A_WORKER = 1.5e9

# What tracing makes stays for long: to look through it for garbage less often saves a tenth.
gc.set_threshold(200_000, 50, 100)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_xdist_auto_num_workers(config):
    """One process a core, as compiling takes one; but one in all where there is an accelerator.

    Processes cannot share a TPU, and each would take a GPU's whole memory.
    """
    devices = pathlib.Path("/dev")
    if [*devices.glob("nvidia[0-9]*"), *devices.glob("accel[0-9]*"), *devices.glob("vfio/[0-9]*")]:
        return 0
    return min(os.cpu_count() or 1, MAX_WORKERS)


def resident_bytes():
    """The memory of this process; 0 where the system does not tell."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def drop_compiled_programs():
    jax.clear_caches()
    for forget in FORGET:
        forget()
    gc.collect()
    if LIBC is not None:
        LIBC.malloc_trim(0)  # Else the system does not get back what was freed.


def c_library():
    """glibc, or None where there is none."""
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


LIBC = c_library()


def pytest_collection_modifyitems(items):
    """The files directly in tests/, whose tests take longest, come first.

    At the end they would keep one worker busy while the others wait.
    """
    folder = pathlib.Path(__file__).parent
    items.sort(key=lambda item: item.path.parent != folder)


def pytest_collection_finish():
    """What was imported stays: no later look for garbage goes through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def memory_bound():
    """[bytes that a worker may hold between tests]."""
    return [MEMORY_OF_A_WORKER]


@pytest.fixture(autouse=True)
def bound_memory(memory_bound):
    """Compiled programs take gigabytes together: beyond a worker's share they are dropped.

    What stays, such as the libraries, would have them dropped after every test: the bound moves up.
    """
    yield
    if resident_bytes() > memory_bound[0]:
        drop_compiled_programs()
        memory_bound[0] = max(memory_bound[0], resident_bytes() + 0.3e9)


@pytest.fixture(scope="session", autouse=True)
def quickly_traced():
    """Most of the time of many tests goes into tracing networks."""
    with untraced_initialisers():
        yield


@pytest.fixture(params=slow_but(TRANSFORMS, ["jit", "vmap", "pmap"]))
def transform(request):
    """Runs a function eagerly, under jit, vmap and pmap: `transform(fn)(*args)`.

    Eagerly takes longest, as each operation is compiled by itself: these are slow tests.
    """
    return lambda fn: transformed(fn, request.param)


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real data sets, from $JAXVISION_DATA."""
    folder = os.environ.get("JAXVISION_DATA")
    if not folder:
        pytest.skip("needs real data: set JAXVISION_DATA to its folder")
    return pathlib.Path(folder)
