"""The digest of the training step: it sees what no name can, and nothing else."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.engine import Phase, abstract_state, step_digest
from tests.engine.small_task import small_batches, small_task

BATCH = small_batches(1)[0]


def digest(optimizer, *, task=None, batch=BATCH, **options):
    task = small_task() if task is None else task
    state = abstract_state(task, optimizer, ema_decay=options.get("ema_decay", 0.0))
    return step_digest(task, optimizer, state, batch, **options)


def test_equal_steps_have_equal_digests(first):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), BATCH)
    assert digest(optax.adamw(1e-3), task=small_task()) == first
    assert digest(Phase(optax.adamw(1e-3)), batch=shapes) == first
    assert digest(optax.adamw(1e-3), batch=small_batches(1, seed=3)[0]) == first


CHANGES = ["rate", "frozen", "batch", "ema", "multiplier", "schedule", "parts"]


@pytest.fixture(scope="module")
def first():
    return digest(optax.adamw(1e-3))


@pytest.mark.parametrize("change", CHANGES)
def test_another_step_has_another_digest(first, change):
    other = {
        "rate": lambda: digest(optax.adamw(2e-3)),
        "frozen": lambda: digest(Phase(optax.adamw(1e-3), freeze=("bn",))),
        "batch": lambda: digest(optax.adamw(1e-3), batch=small_batches(1, 4)[0]),
        "ema": lambda: digest(optax.adamw(1e-3), ema_decay=0.9),
        "multiplier": lambda: digest(Phase(optax.adamw(1e-3), lr_multipliers=(("bn", 0.5),))),
        "schedule": lambda: digest(Phase(optax.adamw(1e-3), schedule=lambda step: 1e-3)),
        "parts": lambda: digest(optax.adamw(1e-3), accumulate=2),
    }[change]()
    assert other != first


@pytest.mark.parametrize("nested", [False, True])
def test_constants_count_to_the_last_element(nested):
    def loss_with(table):
        def look_up(y, label):
            return jnp.asarray(table)[label] * jax.nn.logsumexp(y)

        look_up = jax.jit(look_up) if nested else look_up
        return lambda outputs, example, *, key, step: {
            "looked_up": (look_up(outputs["y"], 0), jnp.float32(1))
        }

    table = np.random.default_rng(0).normal(size=5000).astype("f4")
    other = table.copy()
    other[2500] += 1
    digests = {
        digest(optax.sgd(0.1), task=dataclasses.replace(small_task(), loss=loss_with(x)))
        for x in (table, table.copy(), other)
    }
    assert len(digests) == 2


SCRIPT = """
import optax
from tests.engine.test_traced_step import digest
print(digest(optax.adamw(optax.cosine_decay_schedule(1e-3, 100))))
"""


@pytest.mark.slow
def test_a_process_with_another_hash_seed_finds_the_same():
    other = "1" if os.environ.get("PYTHONHASHSEED") == "12345" else "12345"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": other,
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_PLATFORMS": "cpu",
    }
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = done.stdout.strip()
    assert found == digest(optax.adamw(optax.cosine_decay_schedule(1e-3, 100)))
    assert len(found) == 64
