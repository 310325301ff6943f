"""XLA's options that make some networks faster on some platforms, as measured."""

from typing import Any

import jax

# On CPUs XLA hands convolutions to a library that runs some of them on one core only. Without it
# evaluation is faster and most training is slower: `benchmarks/backbones.py --options` tells.
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
    """Options for `jax.jit(..., compiler_options=...)`, or `lowered.compile(...)`, of a network.

    Args:
      name: a key of `MODELS`.
      train: of a training step; else of an evaluation.
    Returns:
      Option -> value; none where the defaults do best, or nothing was measured.
    """
    return dict(_ON_CPU.get((name, train), {})) if jax.default_backend() == "cpu" else {}
