"""A detector learns real pictures by heart: the whole way from files to average precision."""

import numpy as np
import pytest

from jaxvision.cli.config import default_config
from jaxvision.data import (
    AnnotatedImages,
    EvalLoader,
    Subset,
    ToDetectionExample,
    TrainLoader,
    read_voc,
)
from jaxvision.engine import Parallel, init_state, make_evaluate, make_optimizer, make_update
from jaxvision.tasks import detection

IMAGES, STEPS = 16, 300
CLASSES = ("Platelets", "RBC", "WBC")


def config_of():
    config = default_config("detection")
    config.steps = STEPS
    config.model.name = "yolov2"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (1, ((16, 3),)),
            (2, ((32, 3),)),
            (3, ((64, 3),)),
            (4, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.level, config.model.convolutions, config.model.passthrough = 4, (128,), 32
    config.anchors = ((14, 17), (28, 33), (36, 42), (44, 50), (68, 82))
    config.data.class_names = CLASSES
    config.data.image_size = 208
    config.loss.prior_steps = 20
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config


@pytest.mark.long
def test_sixteen_pictures_of_blood_are_learnt_by_heart(real_data, record_property):
    """With an error on the way (boxes that are off, swapped classes) they would not be."""
    config = config_of()
    listing = read_voc(real_data / "bccd", "train", class_names=CLASSES)
    source = Subset(AnnotatedImages(listing, name="bccd"), range(IMAGES))
    size = config.data.image_size
    transform = ToDetectionExample((size, size), num_classes=3, max_boxes=40, resize="stretch")
    task, parallel = detection(config), Parallel()
    optimizer = make_optimizer(config.optimizer, steps=STEPS)
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    batches = TrainLoader(source, transform, batch_size=IMAGES, seed=0)
    losses = []
    for _ in range(STEPS):
        state, record = update(state, parallel.shard(next(batches)))
        losses.append(float(record["loss"]))
    data = EvalLoader(source, transform, batch_size=IMAGES)
    found = make_evaluate(task, parallel=parallel)(state, data)
    record_property("AP50", found.metrics["AP50"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 10
    assert found.metrics["AP50"] > 0.95, found.metrics
