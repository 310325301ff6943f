"""Devices that are described and not there, to compile for; the one file with private calls of JAX.

XLA compiles for a TPU with libtpu and for a GPU with JAX's CUDA plugin, on any machine. Neither has
a public function for it that works without the device, so this file sets what libtpu reads from the
environment, and loads the CUDA plugin by a private function of JAX.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from typing import Any

import jax
from jax._src import xla_bridge  # private
from jax.experimental import topologies

from jaxvision.core import InputError
from jaxvision.planning.hardware import Target

_EXTRAS = {"gpu": ("jax_cuda12_plugin", "plan-cuda"), "tpu": ("libtpu", "plan-tpu")}
"""Platform -> (the module that compiles for it, the extra that installs it)."""

_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server to ask
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}

_H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 patch: 0 }
device_description_str: "NVIDIA H200"
"""
"""The GPU as XLA's GpuTargetConfigProto."""

_OPTIONS = {
    # Nothing can be timed without the device, and some products find no tiling of Triton then.
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
    "tpu": {},
    "cpu": {},
}


def compiler_options(target: Target) -> Mapping[str, Any]:
    """Options of XLA with which a program is compiled for a target."""
    return _OPTIONS[target.hardware.platform]


def devices_of(target: Target) -> Sequence[Any]:
    """The devices of a target, in the order of the batch: what `Parallel` and meshes take.

    A CPU's are those of this process. Those of other platforms can only be compiled for.

    Args:
      target: which devices.
    Raises:
      InputError: what compiles for them is not installed, there are no such slices of a TPU, or
        this process has fewer CPU devices.
    """
    platform = target.hardware.platform
    if platform == "cpu":
        return _cpus(target.devices)
    module, extra = _EXTRAS[platform]
    if util.find_spec(module) is None:
        raise InputError(
            f"compiling for {target.hardware.title} needs {module}, which is not installed: "
            f"pip install 'jaxvision[{extra}]'"
        )
    with _errors_of(target):
        if platform == "tpu":
            for name, value in _LIBTPU.items():
                os.environ.setdefault(name, value)
            kind, sides = target.name.removeprefix("tpu-"), "x".join(map(str, target.sides))
            found = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{sides}")
        else:
            xla_bridge._discover_and_register_pjrt_plugins()
            hosts, devices = target.sides
            found = topologies.get_topology_desc(
                platform="cuda",
                topology_name="",
                topology=f"1x{hosts}x{devices}",  # slices x processes x devices
                target_config=_H200,
            )
    return found.devices


def _cpus(count: int) -> Sequence[Any]:
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise InputError(
            f"this process has {len(devices)} CPU devices, not {count}: call "
            f"jax.config.update('jax_num_cpu_devices', {count}) before JAX is used"
        )
    return devices[:count]


@contextlib.contextmanager
def _errors_of(target: Target) -> Iterator[None]:
    """Makes what libtpu and the CUDA plugin raise an error that names the target."""
    try:
        yield
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"target {target} cannot be compiled for: {reason}") from error
