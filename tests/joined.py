"""What processes compute together: a program for tests, and functions that say it of one process.

`python -m tests.joined FOLDER FLAGS...` joins others by the flags of several processes, writes what
it computed to FOLDER/PROCESS.json, and then waits for the others, all but the first of which come.
"""

import json
import os
import pathlib
import signal
import sys

import jax
import numpy as np
import optax

from jaxvision.cli.arguments import common_flags, parse
from jaxvision.cli.processes import join_processes
from jaxvision.data import EvalLoader, ReadOptions, TrainLoader
from jaxvision.engine import Best, Parallel, evaluate, fit, state_digest
from tests.engine.sized_task import WeightedBatch
from tests.engine.small_task import INPUTS, small_task

TRAINED, MEASURED, BATCH, STEPS = 24, 21, 8, 6
# Name -> (how a step is mapped, whether the optimizer's state and the EMA lie in pieces).
KINDS = {
    "pmap": ("pmap", False),
    "shard_map": ("shard_map", False),
    "shard_state": ("shard_map", True),
}


class Records:
    """Records of random numbers, which remember in which order they were read."""

    def __init__(self, count):
        rng = np.random.default_rng(0)
        self._numbers = rng.normal(size=(count, INPUTS)).astype("f4")
        self.read = []

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, index):
        self.read.append(index)
        return {"total": self._numbers[index]}

    def where(self, index):
        return f"record {index}"


def to_example(record, where):
    del where
    total = record["total"]
    return WeightedBatch(total, np.float32(total[0] ** 2 + 0.1), np.bool_(True))


def computed(folder, kind):
    """What a training and an evaluation on all devices give, and which records were read."""
    trained, measured = Records(TRAINED), Records(MEASURED)
    alone = ReadOptions(threads=1)
    mapped, shard_state = KINDS[kind]
    parallel, task = Parallel(mapped), small_task()
    fitted = fit(
        task,
        optax.adamw(0.05),
        train=TrainLoader(trained, to_example, batch_size=BATCH, seed=3, read=alone),
        validation=EvalLoader(Records(MEASURED), to_example, batch_size=BATCH),
        best=Best("score"),
        steps=STEPS,
        seed=0,
        eval_every=2,
        ema_decay=0.9,
        workdir=folder / kind,
        parallel=parallel,
        shard_state=shard_state,
    )
    data = EvalLoader(measured, to_example, batch_size=BATCH, read=alone)
    epoch = TRAINED // BATCH * len(data._batches.shard.places(BATCH))
    return {
        "state": state_digest(parallel.fetch(fitted.state)),
        "local share": local_share(fitted.state.ema),
        "best": fitted.step,
        "metrics": evaluate(task, fitted.variables, data, parallel=parallel).metrics,
        "trained on": trained.read[:epoch],
        "measured on": measured.read,
    }


def local_share(tree):
    """The share of the elements of a tree that a device of this process has."""
    leaves = jax.tree.leaves(tree)
    there = sum(x.addressable_shards[0].data.size for x in leaves)
    return there / sum(x.size for x in leaves)


def main(folder, *arguments):
    values = common_flags()
    parse(values, ["joined", *arguments], "")
    join_processes(values)
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)
    index = jax.process_index()
    result = {kind: computed(folder, kind) for kind in KINDS}
    (folder / f"{index}.json").write_text(json.dumps(result))
    parallel = Parallel()
    parallel.barrier("both have written")
    if index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    parallel.barrier("where the first process does not come")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
