"""A task binds a network to its loss, metrics and decoding, as a record of pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array

from jaxvision.core.weighting import Terms

AXIS = "batch"
"""Name of the mapped device axis, for whatever is summed or synchronised over devices."""


class Keys(NamedTuple):
    """Keys of one training step.

    Attributes:
      example: key[B], one for each example of the local batch, derived from the seed, the step and
        the example's index in the *global* batch: the same on any number of devices.
      device: key[], different on each device; for dropout and drop path only.
    """

    example: Array
    device: Array


@dataclass(frozen=True)
class Task:
    """What the engine trains.

    `batch` and `example` are the structs of `jaxvision.core.batch` (or any other pytree with a
    field `mask`); an example is a batch without its leading axis. `outputs` is whatever `forward`
    returns; `loss`, `metrics` and `decode` see one example's part of it.

    Attributes:
      init: (key) -> variables.
      augment: (key, example) -> example. Random changes for training, on raw images (uint8 in,
        0..255 out).
      prepare: (example) -> example. The deterministic part, in training after `augment` and in
        evaluation alone: raw images to what the network takes.
      forward: (variables, batch, *, keys, step, train) -> (outputs, statistics). Runs on a whole
        local batch, because batch norm needs one. May look at the batch's targets, so that training
        can close a proposal picker over ground truth. `keys` is None in evaluation. Statistics are
        the changed collections of `variables` ({} if none).
      loss: (outputs, example, *, key, step) -> name -> (total, weight). Each term is divided by
        its own summed weight; the sum of the terms is minimised. Weights are constants: no gradient
        flows through them.
      metrics: (outputs, example) -> name -> (total, weight), numbers or vectors with an entry for
        each class; see `jaxvision.core.mean_ratio`.
      decode: (outputs) -> predictions for one example.
      collect: (outputs, example) -> what evaluation keeps of each example, small arrays, for a
        metric that needs all examples at once, such as average precision; None: nothing.
      summarize: (collected) -> name -> number, on the host: what `collect` gave of all examples,
        each array with a leading axis; of no example too. None: nothing.
      partners: other examples that `augment` needs beside each one, in its field `partners`.
    """

    init: Callable[[Array], dict[str, Any]]
    augment: Callable[[Array, Any], Any]
    prepare: Callable[[Any], Any]
    forward: Callable[..., tuple[Any, dict[str, Any]]]
    loss: Callable[..., Terms]
    metrics: Callable[[Any, Any], Terms]
    decode: Callable[[Any], Any]
    collect: Callable[[Any, Any], Any] | None = None
    summarize: Callable[[Any], dict[str, float]] | None = None
    partners: int = 0
