"""Inputs of several shapes from data to predictions: training, evaluation, prediction, features."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxvision.core import Inputs
from jaxvision.data import EvalLoader, ReadOptions, ToSegmentation, TrainLoader
from jaxvision.data.transforms.placing import fit_image
from jaxvision.engine import Parallel, evaluate, fit, state_digest
from jaxvision.features import compute_features, image_batches
from jaxvision.predict import predict
from jaxvision.tasks import segmentation
from tests.engine.stream import InterruptedRunError

SIZES = [(20, 30), (30, 20), (24, 20), (20, 60), (60, 20), (20, 26), (40, 60), (20, 20)]
HERE = ReadOptions(threads=0)
INPUTS = Inputs(
    resize="shorter_side", shorter_side=16, longer_side=32, multiple_of=8, shapes="buckets"
)


class Halves:
    """Images of several sizes, of which the right half is bright and has the label 1."""

    class_names = ("dark", "bright")

    def __len__(self):
        return 2 * len(SIZES) + 1

    def __getitem__(self, index):
        height, width = SIZES[index % len(SIZES)]
        labels = np.tile(np.arange(width) >= width // 2, (height, 1)).astype(np.uint8)
        return {"image": np.stack([40 + 150 * labels] * 3, -1), "labels": labels}

    def where(self, index):
        return f"halves {index}"

    def target(self, index):
        return {"labels": self[index]["labels"]}

    def size(self, index):
        return SIZES[index % len(SIZES)]


class Pixels(nn.Module):
    """Two logits of each pixel, and a map of it."""

    @nn.compact
    def __call__(self, images, *, train):
        return {"c0": images, "logits": nn.Dense(2)(images)}


class Breaking(TrainLoader):
    """A loader that breaks off before a batch."""

    broken_at = None

    def __next__(self):
        if self.get_state()["batches"] == self.broken_at:
            raise InterruptedRunError
        return super().__next__()


def task_of(inputs):
    return segmentation(Pixels(), inputs, class_names=Halves.class_names)


def run(workdir, devices=1, log=None, broken_at=None):
    task, source = task_of(INPUTS), Halves()
    transform = ToSegmentation(INPUTS, 2)
    train = Breaking(source, transform, batch_size=4, seed=3, read=HERE)
    train.broken_at = broken_at
    return fit(
        task,
        optax.adam(0.3),
        train=train,
        validation=EvalLoader(source, transform, batch_size=4, read=HERE),
        steps=24,
        eval_every=24,
        checkpoint_every=6,
        seed=0,
        workdir=workdir,
        parallel=Parallel(devices=jax.devices()[:devices]),
        log=([] if log is None else log).append,
    )


@pytest.mark.slow
def test_a_run_on_mixed_shapes_compiles_each_once_and_resumes_to_the_bit(tmp_path):
    log = []
    whole = run(tmp_path / "whole", log=log)
    for what in ("the training step", "the evaluation"):
        lines = [line for line in log if line.startswith(f"compiled {what} for images of ")]
        shapes = {line.split(" of ")[1].split(" in ")[0] for line in lines}
        # The longer side is twice the shorter one at most, of 16.
        assert shapes == {"32 x 16", "24 x 16", "16 x 24", "16 x 32"}
        assert len(lines) == 4
        assert all(line.endswith(" s") for line in lines)
    assert whole.history[-1]["metrics"]["mean_iou"] > 0.99
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", broken_at=9)
    parts = run(tmp_path / "parts")
    assert state_digest(parts.state) == state_digest(whole.state)
    several = run(None, devices=4)
    for x, y in zip(*(jax.tree.leaves(x.variables) for x in (whole, several)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", ["buckets", "exact"])
def test_every_image_gets_its_own_prediction_measure_and_features(shapes):
    inputs = dataclasses.replace(INPUTS, shapes=shapes)
    task, source = task_of(inputs), Halves()
    kernel = jnp.array([[-1.0, 1.0]] * 3)
    variables = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.array([1.35, -1.35])}}}
    records = [source[index] for index in range(len(source))]
    images = [record["image"] for record in records]
    images.insert(3, np.zeros((0, 4, 3), np.uint8))  # cannot be predicted
    found = list(predict(task, variables, images, batch_size=3))
    assert "at least one pixel" in found.pop(3).reason
    for prediction, record in zip(found, records, strict=True):
        np.testing.assert_array_equal(prediction.image, record["image"])
        wrong = prediction.result != record["labels"]
        assert wrong.mean() < 0.1
        assert not wrong[:, [0, 1, -2, -1]].any()
    loader = EvalLoader(source, ToSegmentation(inputs, 2), batch_size=4, read=HERE)
    evaluation = evaluate(task, variables, loader, parallel=Parallel(devices=jax.devices()[:2]))
    assert evaluation.metrics["mean_iou"] > 0.95
    # In the order of the records.
    areas = [np.prod(inputs.resized(record["image"].shape[:2])) for record in records]
    np.testing.assert_array_equal(np.sum(evaluation.collected["iou"][1], axis=1) >= areas, True)
    counts = evaluation.collected["iou"][1].sum(axis=1) - areas
    assert (counts <= 40).all()
    batches = image_batches(source, inputs, batch_size=3)
    features = compute_features(task, variables, batches, ["c0"])
    np.testing.assert_array_equal(features.indices, np.arange(len(source)))
    for row, record in zip(features.maps["c0"], records, strict=True):
        placed = fit_image(record["image"], inputs)[0]
        height, width = inputs.resized(record["image"].shape[:2])
        expected = (placed[:height, :width] / 255).sum(axis=(0, 1)) / np.prod(placed.shape[:2])
        np.testing.assert_allclose(row, expected, rtol=1e-5)
