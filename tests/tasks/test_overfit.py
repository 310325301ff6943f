"""A detector overfits real pictures: the whole way from files to average precision."""

import numpy as np
import optax
import pytest

from jaxvision.core import Inputs
from jaxvision.data import EvalLoader, Subset, ToDetection, TrainLoader, VocFolder
from jaxvision.models import create_model
from jaxvision.tasks import detection, detectors
from tests.tasks.loop import evaluate, train

IMAGES, STEPS = 16, 300
CLASSES = ("Platelets", "RBC", "WBC")
INPUTS = Inputs((208, 208), resize="stretch")


def overfitting_task():
    stages = (
        (1, ((16, 3),)),
        (2, ((32, 3),)),
        (3, ((64, 3),)),
        (4, ((128, 3), (64, 1), (128, 3))),
    )
    model = create_model(
        "yolov2",
        num_classes=len(CLASSES),
        backbone={"name": "plain_darknet", "stages": stages},
        level=4,
        convolutions=(128,),
        passthrough=32,
    )
    anchors = ((14, 17), (28, 33), (36, 42), (44, 50), (68, 82))
    detector = detectors.yolov2(model, anchors, prior_steps=20)
    return detection(detector, INPUTS, class_names=CLASSES)


@pytest.mark.long
def test_sixteen_pictures_of_blood_are_overfitted(real_data, record_property):
    """With an error on the way (boxes that are off, swapped classes) they would not be."""
    source = Subset(VocFolder(real_data / "bccd", "train", class_names=CLASSES), range(IMAGES))
    transform = ToDetection(INPUTS, len(CLASSES), max_boxes=40)
    task = overfitting_task()
    loader = TrainLoader(source, transform, batch_size=IMAGES, seed=0)
    rate = optax.cosine_onecycle_schedule(STEPS, 3e-3, pct_start=0.2)
    batches = (next(loader) for _ in range(STEPS))
    losses, variables = train(task, batches, optimizer=optax.adamw(rate))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 10
    data = EvalLoader(source, transform, batch_size=IMAGES)
    found = evaluate(task, variables, data, data.targets())
    record_property("AP50", found.metrics["AP50"])
    assert found.metrics["AP50"] > 0.95, found.metrics
