"""A task combines a network with its loss, metrics and decoding, as a record of pure functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jaxvision.core.inputs import Inputs
from jaxvision.core.weighting import Terms

Record = Mapping[str, Any]
"""One record of a data source on the host: "image" and its annotations, as numpy arrays."""

AXIS = "batch"
"""Name of the mapped device axis, over which values are summed or synchronised."""


class Keys(NamedTuple):
    """The random keys of one training step.

    Attributes:
      example: key[B], one for each example of the local batch, derived from the seed, the step and
        the example's index in the *global* batch, so that it is the same on any number of devices.
      device: key[], different on each device; only for dropout and drop path.
    """

    example: Array
    device: Array


class Summary(NamedTuple):
    """The result of a metric over all examples.

    Attributes:
      numbers: name -> number; they are written to metrics.jsonl and printed as results.
      tables: name -> array, such as a number for each class, a curve or a confusion matrix, for
        reports.
    """

    numbers: dict[str, float]
    tables: dict[str, np.ndarray]


@dataclass(frozen=True)
class DatasetMetric:
    """A metric that needs all examples at once, such as average precision.

    Attributes:
      names: names of the numbers that the metric always returns, known in advance.
      collect: (outputs, example) -> small arrays to keep for each example, computed on the device.
        Those of filler images are left out afterwards.
      summarize: (collected, records) -> Summary, called on the host once for each evaluation.
        `collected` has the results of `collect` for all examples, each array with a leading axis;
        `records` has their records in the same order, with the ground truth but without images.
      needs_records: whether `summarize` looks at the records; if not, it gets none, and the data
        need not have them.
      reduce: (collected) -> collected, called on the host with the results of `collect` for the
        examples of each batch, as soon as they are there, or None. It makes large results smaller,
        such as masks; its arrays (also of dtype object) have the same leading axis, and take the
        place of the others.
      check: (records) -> None, called before anything is computed, or None. It raises InputError if
        `summarize` cannot use the records.
    """

    names: tuple[str, ...]
    collect: Callable[[Any, Any], Any]
    summarize: Callable[[Any, Sequence[Record]], Summary]
    needs_records: bool = True
    reduce: Callable[[Any], Any] | None = None
    check: Callable[[Sequence[Record]], None] | None = None


@dataclass(frozen=True)
class Task:
    """The functions that the engine needs to train and evaluate a network.

    `batch` and `example` are the structs of `jaxvision.core.batch` (or any other pytree with a
    field `mask`); an example is a batch without its leading axis. `outputs` is the result of
    `forward`; `loss`, `metrics` and `decode` get the part of one example.

    Attributes:
      init: (key) -> variables.
      augment: (key, example) -> example. Random changes for training, of raw images: the input is
        uint8, the result is in 0..255.
      prepare: (example) -> example. The deterministic conversion of raw images to the input of the
        network. It runs after `augment` in training, and alone in evaluation.
      forward: (variables, batch, *, keys, step, train) -> (outputs, statistics). It runs on a whole
        local batch, because batch norm needs one. It may use the targets of the batch: a two-stage
        detector samples its proposals by the ground truth in training. `keys` and `step` are None
        in evaluation. `statistics` has the changed collections of `variables` ({} if none).
      loss: (outputs, example, *, key, step) -> name -> (total, weight). Each term is divided by
        its own summed weight, or by 1 where that is 0; the sum of the terms is minimised. So a
        weight that counts positives divides by max(1, positives of the batch). Weights are
        constants: no gradient flows through them.
      metrics: (outputs, example) -> name -> (total, weight), numbers or vectors with an entry for
        each class; see `jaxvision.core.mean_ratio`.
      decode: (outputs, example) -> predictions for one example. It may use only the fields of the
        example that are known without annotations: `image`, `extent`, `placement` and `size`.
      perturb: (variables, batch, *, keys, step) -> batch, or None. It runs in training after
        `prepare`, on a whole local batch, and sees the variables before the step, as adversarial
        training needs; no gradient of the step flows through it.
      kind: "classification", "detection", ...; a custom task may have any kind.
      inputs: the conversion of images to the network's input; None if the task reads no images.
      class_names: names of the classes, or of the landmarks; () if there are none.
      dataset_metric: a metric over all examples, or None.
      partners: number of further examples that `augment` needs for each example, in its field
        `partners`.
      freeze: patterns of parameters that are not trained, in any phase, see
        `jaxvision.core.patterns`.
      sync_batch_norm: whether `statistics` are the same on all devices, because norms average over
        them. False: each device has its own, and the training step takes the mean of their changes,
        by the sum over the devices that adds up the gradients.
      origin: name of a field of this record -> (its value, the description of the value in JSON),
        for fields that were built from named parts; see `jaxvision.core.describe`.
    """

    init: Callable[[Array], dict[str, Any]]
    augment: Callable[[Array, Any], Any]
    prepare: Callable[[Any], Any]
    forward: Callable[..., tuple[Any, dict[str, Any]]]
    loss: Callable[..., Terms]
    metrics: Callable[[Any, Any], Terms]
    decode: Callable[[Any, Any], Any]
    perturb: Callable[..., Any] | None = None
    kind: str = ""
    inputs: Inputs | None = None
    class_names: tuple[str, ...] = ()
    dataset_metric: DatasetMetric | None = None
    partners: int = 0
    freeze: tuple[str, ...] = ()
    sync_batch_norm: bool = True
    origin: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
