"""Measures the overhead of the engine over a bare jitted step of the same network.

  python benchmarks/engine_overhead.py [--batch-size 128] [--steps 10] [--pairs 7]

Both train ResNet-20 on 32x32 images with the same loss and optimizer. The bare step is
`jax.jit(value_and_grad + optax)` on one batch that is on the device, and nothing else. The engine
is `train_steps` as `fit` runs it: it loads, transfers and normalises data, makes keys, runs pmap,
and fetches and writes metrics. Both run alternately, each for some steps. The result is the median
over the pairs of the ratio of their times, and the share of the engine's time that it waits for
data, which come from memory. The first steps of a turn do not count for the latter, because their
batches were made before it.
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

from jaxvision.core import Inputs
from jaxvision.data import Arrays, ToClassification, TrainLoader
from jaxvision.engine import (
    Parallel,
    Phase,
    decay_mask,
    init_state,
    log,
    make_update,
    train_steps,
)
from jaxvision.engine.journal import Journal
from jaxvision.engine.prefetch import Waiting
from jaxvision.models import create_model
from jaxvision.tasks import classification

DEPTH = 2  # batches kept ready, as by default
STEPS = 64_000  # length of the run that these steps are part of, as for CIFAR-10


SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.1, 0, STEPS)


def random_images(count=50_000):
    """Random images in memory, as many as in CIFAR-10."""
    rng = np.random.default_rng(0)
    return Arrays(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count))


def optimizer():
    """SGD with momentum and weight decay, as for ResNets."""
    return optax.chain(
        optax.add_decayed_weights(1e-4, mask=decay_mask), optax.sgd(SCHEDULE, momentum=0.9)
    )


def bare_runner(batch_size, steps):
    """Returns a function () -> seconds for `steps` bare steps."""
    model = create_model("resnet20", num_classes=10)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch_size, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, batch_size))
    variables = model.init(jax.random.key(0), images[:1], train=False)
    tx = optimizer()

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
        updates, opt_state = tx.update(grads, opt_state, params)
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


def engine_runner(batch_size, steps, workdir, waits):
    """Returns a function () -> seconds for `steps` steps of the engine.

    It appends (seconds that were waited for data, seconds) to `waits`.
    """
    parallel = Parallel("pmap", jax.devices()[:1])
    phase = Phase(optimizer(), schedule=SCHEDULE)
    inputs = Inputs((32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = create_model("resnet20", num_classes=10)
    task = classification(model, inputs, class_names=10)
    update = make_update(task, phase, parallel=parallel)
    state = parallel.replicate(init_state(task, phase, seed=0))
    transform = ToClassification(inputs, num_classes=10)
    data = TrainLoader(random_images(), transform, batch_size=batch_size, seed=0)
    waiting = Waiting()
    journal = Journal(
        workdir,
        start=0,
        steps=STEPS,
        batch_size=batch_size,
        shown=("loss",),
        log_every=100,
        log=log,
        visible=True,
        last_good=lambda: None,
        waiting=waiting,
    )
    how = {"seed": 0, "parallel": parallel, "stop": STEPS, "depth": DEPTH, "waiting": waiting}
    stream = train_steps(update, state, data, **how)

    def run_steps():
        began = time.perf_counter()
        for number in range(steps):
            if number == DEPTH + 1:
                mark, waited = time.perf_counter(), waiting.seconds
            step, state, record, _ = next(stream)
            journal.add(step, record)
        jax.block_until_ready(state)
        end = time.perf_counter()
        if steps > DEPTH + 1:
            waits.append((waiting.seconds - waited, end - mark))
        return end - began

    return run_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps in each turn")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workdir:
        bare = bare_runner(options.batch_size, options.steps)
        waits = []
        engine = engine_runner(options.batch_size, options.steps, pathlib.Path(workdir), waits)
        bare(), engine()  # compile
        waits.clear()
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
    waited, seconds = map(sum, zip(*waits, strict=True)) if waits else (0.0, 0.0)
    share = f"{waited / seconds:.2%}" if waits else "not measured: give more --steps"
    print(
        f"engine / bare: median {median:.3f} of {len(ratios)} pairs, batch {options.batch_size}\n"
        f"waiting for data from memory: {share}\n"
        f"{machine()}"
    )


if __name__ == "__main__":
    main()
