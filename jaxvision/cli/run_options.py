"""The options of a run that all kinds of tasks share."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxvision.core import check_range


@dataclass(frozen=True)
class RunOptions:
    """What a run is.

    Attributes:
      seed: of the initialisation, the order of the data and all randomness in training.
      steps: updates in all.
      batch_size: of the global batch, over all devices and processes.
      accumulate: parts of the batch, one after the other, whose gradients are added before an
        update; with more parts a step takes less memory.
      init_from: fine-tune: pretrained weights to start from: the name of published ones, as
        "resnet50:IMAGENET1K_V2" (see `jaxvision models --weights`), a run's folder, a folder of
        `jaxvision convert`, a file in torch's layout, or a .weights file of Darknet.
      init_cfg: the .cfg file that describes such a .weights file; not needed if model.cfg does.
      init_prefix: taken off the keys of such a file where they have it, such as "module."
      init_key_map: renames the keys of such a file, as (("encoder.stem", "conv1"), ("head", "")): *
        stands for any part of a key, an empty name ignores what it finds.
      reinit: patterns of variables that start at random all the same, as in freeze: ("fc",)
      freeze: patterns of parameters that are not trained, as ("conv1", "layer[12]*"): * and ? stand
        for any characters, and the beginning of a name up to a / is enough.
      freeze_statistics: likewise, of batch norms that use the statistics that they have, and keep
        them: ("*",) for all.
      eval_every: steps between evaluations, each followed by a checkpoint.
      checkpoint_every: steps between further checkpoints; 0: none.
      keep: last checkpoints to keep, beside the best one; at least 2.
      log_every: steps between two lines of progress, where there is no progress bar.
      prefetch: batches that are read and kept ready on the devices before they are needed.
      parallel: "pmap" or "shard_map".
      sync_batch_norm: batch norms use the statistics of the batches of all devices; False: each
        device those of its part, which is faster and depends on the number of devices.
      shard_state: whether the state of the optimizer and the EMA lie in pieces, one on each device;
        for "shard_map".
      remat: compute the blocks of the network a second time in the backward pass: less memory, more
        time, the same results.
      deterministic: the same bits from run to run on a GPU too, at some cost.
    """

    seed: int = 0
    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
    init_from: str | None = None
    init_cfg: str = ""
    init_prefix: str = ""
    init_key_map: Sequence[tuple[str, str]] = ()
    reinit: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    freeze_statistics: tuple[str, ...] = ()
    eval_every: int = 100
    checkpoint_every: int = 0
    keep: int = 2
    log_every: int = 100
    prefetch: int = 2
    parallel: str = "pmap"
    sync_batch_norm: bool = True
    shard_state: bool = False
    remat: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "eval_every", "log_every", "prefetch"):
            check_range(name, getattr(self, name), least=1)
        check_range("keep", self.keep, least=2)
        check_range("checkpoint_every", self.checkpoint_every, least=0)
        check_range("seed", self.seed, least=0, most=2**32 - 1)


@dataclass(frozen=True)
class BestOptions:
    """Which checkpoint is the best.

    Attributes:
      metric: name of the metric of the validation part.
      mode: "max" or "min".
      patience: evaluations without a better one before training stops early; 0: never.
    """

    metric: str = ""
    mode: str = "max"
    patience: int = 0


@dataclass(frozen=True)
class ModelOptions:
    """The network; further keys are its fields.

    Attributes:
      name: which `jaxvision models` lists, or "file.py:Class" of your own.
    """

    name: str = ""


@dataclass(frozen=True)
class LossOptions:
    """The loss; further keys are its options.

    Attributes:
      name: of the loss, or "file.py:function" of your own.
    """

    name: str = ""
