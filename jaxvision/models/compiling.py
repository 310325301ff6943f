"""Compiler options of XLA that make some networks faster on some platforms, as measured."""

from typing import Any

import jax

# On CPUs XLA uses a library for convolutions that runs some of them on one core only. Without this
# library evaluation is faster, but most training is slower: `benchmarks/backbones.py --options`
# measures it.
_OWN_LOOPS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INVALID"}
_EVALUATED = (
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v2",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "vgg16",
)

# (network, whether it trains) -> options.
_ON_CPU: dict[tuple[str, bool], dict[str, Any]] = {
    **{(name, False): _OWN_LOOPS for name in _EVALUATED},
    ("resnet18", True): _OWN_LOOPS,
}


def compiler_options(name: str, *, train: bool) -> dict[str, Any]:
    """Returns options of a network for `jax.jit(..., compiler_options=...)`.

    They can also be given to `lowered.compile(...)`.

    Args:
      name: a key of `MODELS`.
      train: whether the options are for a training step or for evaluation.
    Returns:
      option -> value; empty if the defaults are fastest, or if nothing was measured.
    """
    return dict(_ON_CPU.get((name, train), {})) if jax.default_backend() == "cpu" else {}
