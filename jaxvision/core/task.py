"""A task binds a network to its loss, metrics and decoding, as a record of pure functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jaxvision.core.inputs import Inputs
from jaxvision.core.weighting import Terms

Record = Mapping[str, Any]
"""One record of a data source on the host: "image" and the annotations of it, in numpy."""

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


class Summary(NamedTuple):
    """What a metric over all examples found.

    Attributes:
      numbers: name -> number; they go into metrics.jsonl and the line of results.
      tables: name -> array, such as a number for each class, a curve or a confusion matrix; reports
        read them and compute nothing again.
    """

    numbers: dict[str, float]
    tables: dict[str, np.ndarray]


@dataclass(frozen=True)
class DatasetMetric:
    """A metric that needs all examples at once, such as average precision.

    Attributes:
      names: of the numbers that it always gives, known before anything is computed.
      collect: (outputs, example) -> what is kept of each example, small arrays, computed on the
        device. Filler is left out afterwards.
      summarize: (collected, records) -> Summary, on the host, once for each evaluation: what
        `collect` gave of all examples, each array with a leading axis, and their records without
        images in the same order, which hold the ground truth.
    """

    names: tuple[str, ...]
    collect: Callable[[Any, Any], Any]
    summarize: Callable[[Any, Sequence[Record]], Summary]


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
        can close a proposal picker over ground truth. `keys` and `step` are None in evaluation.
        Statistics are the changed collections of `variables` ({} if none).
      loss: (outputs, example, *, key, step) -> name -> (total, weight). Each term is divided by
        its own summed weight; the sum of the terms is minimised. Weights are constants: no gradient
        flows through them.
      metrics: (outputs, example) -> name -> (total, weight), numbers or vectors with an entry for
        each class; see `jaxvision.core.mean_ratio`.
      decode: (outputs, example) -> predictions for one example. Of the example it may use what is
        known without annotations: `image`, `extent`, `placement` and `size`.
      kind: "classification", "detection", ...; a task of your own may have any word.
      inputs: how images become the network's input; None where no images are read.
      class_names: of the labels, or of the landmarks; () where there are none.
      dataset_metric: a metric over all examples; None: there is none.
      partners: other examples that `augment` needs beside each one, in its field `partners`.
      origin: name of a field of this record -> (the object there, its description in JSON), of what
        was built from named parts; see `jaxvision.core.describe`.
    """

    init: Callable[[Array], dict[str, Any]]
    augment: Callable[[Array, Any], Any]
    prepare: Callable[[Any], Any]
    forward: Callable[..., tuple[Any, dict[str, Any]]]
    loss: Callable[..., Terms]
    metrics: Callable[[Any, Any], Terms]
    decode: Callable[[Any, Any], Any]
    kind: str = ""
    inputs: Inputs | None = None
    class_names: tuple[str, ...] = ()
    dataset_metric: DatasetMetric | None = None
    partners: int = 0
    origin: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
