"""Measures the overhead of the engine over a bare jitted step of the same network.

  python benchmarks/engine_overhead.py [--batch-size 128] [--steps 10] [--pairs 7]

Both train ResNet-20 on 32x32 images with the same loss and optimizer. The bare step is
`jax.jit(value_and_grad + optax)` on one batch that is on the device, and nothing else. The engine
is `train_steps` as `fit` runs it: it loads, transfers and normalises data, makes keys, runs pmap,
and fetches and writes metrics. Both run alternately, each for some steps. The result is the median
over the pairs of the ratio of their times.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import machine

from jaxvision.cli.config import default_config
from jaxvision.data import ToClassificationExample, TrainLoader
from jaxvision.engine import (
    Checkpoints,
    Criterion,
    Journal,
    Parallel,
    Run,
    init_state,
    make_optimizer,
    make_updates,
    train_steps,
)
from jaxvision.models import create_model
from jaxvision.tasks import classification

STEPS = 64_000  # length of the run that these steps are part of, as for CIFAR-10


class RandomImages:
    """Random images in memory, as many as in CIFAR-10."""

    def __init__(self, count=50_000):
        rng = np.random.default_rng(0)
        self._images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        self._labels = rng.integers(0, 10, count)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return {"image": self._images[index], "label": int(self._labels[index])}

    def where(self, index):
        return f"record {index}"


def make_config():
    config = default_config()
    config.model.name = "resnet20"
    config.data.channels = 3
    config.data.mean, config.data.std = (0.5,) * 3, (0.25,) * 3
    config.optimizer.weight_decay = 1e-4
    return config


def bare_runner(config, batch_size, steps):
    """Returns a function () -> seconds for `steps` bare steps."""
    model = create_model("resnet20", num_classes=10)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch_size, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, batch_size))
    variables = model.init(jax.random.key(0), images[:1], train=False)
    tx = make_optimizer(config.optimizer, steps=STEPS).transformation

    def step(params, statistics, opt_state, images, labels):
        def objective(params):
            outputs, changed = model.apply(
                {"params": params, "batch_stats": statistics},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels)
            return losses.mean(), changed["batch_stats"]

        (loss, statistics), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params, value=loss)
        return optax.apply_updates(params, updates), statistics, opt_state, loss

    jitted = jax.jit(step, donate_argnums=(0, 1, 2))
    params, statistics = variables["params"], variables["batch_stats"]
    state = params, statistics, tx.init(params)

    def run():
        nonlocal state
        began = time.perf_counter()
        for _ in range(steps):
            *state, loss = jitted(*state, images, labels)
        jax.block_until_ready(loss)
        return time.perf_counter() - began

    return run


def engine_runner(config, batch_size, steps, workdir):
    """Returns a function () -> seconds for `steps` steps of the engine."""
    parallel = Parallel("pmap", jax.devices()[:1])
    optimizer = make_optimizer(config.optimizer, steps=STEPS)
    task = classification(config)
    update = make_updates(task, (optimizer,), seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    data = TrainLoader(
        RandomImages(), ToClassificationExample(32, 3, 10), batch_size=batch_size, seed=0
    )
    criterion = Criterion("accuracy")
    run = Run(
        workdir=workdir,
        config={},
        steps=STEPS,
        batch_size=batch_size,
        seed=0,
        criterion=criterion,
        eval_every=STEPS,
    )
    checkpoints = Checkpoints(workdir / "checkpoints", criterion=criterion, parallel=parallel)
    journal = Journal(run, start=0, writes=True, checkpoints=checkpoints)
    stream = train_steps(update, state, data, parallel=parallel, start=0, stop=STEPS)

    def run_steps():
        began = time.perf_counter()
        for _ in range(steps):
            step, state, record, _ = next(stream)
            journal.add(step, record)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return run_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps in each turn")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    config = make_config()
    with tempfile.TemporaryDirectory() as workdir:
        bare = bare_runner(config, options.batch_size, options.steps)
        engine = engine_runner(config, options.batch_size, options.steps, pathlib.Path(workdir))
        bare(), engine()  # compile
        ratios = []
        for pair in range(options.pairs):
            # The order alternates, so that neither always comes second.
            first, second = (bare, engine) if pair % 2 == 0 else (engine, bare)
            times = {first: first(), second: second()}
            ratios.append(times[engine] / times[bare])
            print(
                f"pair {pair + 1}: bare {times[bare] / options.steps * 1e3:.1f} ms/step, "
                f"engine {times[engine] / options.steps * 1e3:.1f} ms/step, "
                f"ratio {ratios[-1]:.3f}",
                flush=True,
            )
    median = statistics.median(ratios)
    print(
        f"engine / bare: median {median:.3f} of {len(ratios)} pairs, batch {options.batch_size}\n"
        f"{machine()}"
    )


if __name__ == "__main__":
    main()
