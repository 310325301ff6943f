"""YOLOv4 on COCO, with the settings of Darknet's yolov4.cfg.

    python train.py --config=configs/coco_yolov4.py --workdir=runs/coco_yolov4 \\
        --config.data.dir=coco

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. Published are AP50 0.657 and AP 0.435 at 608 on test-dev, from a backbone
that was trained on ImageNet; this begins with random weights, and has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import COCO_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 500_500
    config.batch_size = 64
    config.eval_every = 10_010

    config.model.name = "yolov4"
    config.anchors = (
        *((12, 16), (19, 36), (40, 28)),
        *((36, 75), (76, 55), (72, 146)),
        *((142, 110), (192, 243), (459, 401)),
    )

    config.data.source = "coco"
    config.data.train_split = "train2017"
    config.data.test_split = "val2017"
    config.data.class_names = COCO_CLASSES
    config.data.validation_fraction = 0.01
    config.data.drop_bad = True  # some boxes have no area, or reach beyond the image
    config.data.image_size = 608
    config.data.sizes = tuple(range(416, 865, 32))
    config.data.size_every = 10
    config.data.workers = 8

    config.augment.jitter = 0.3
    config.augment.jitter_first = True
    config.augment.mosaic = 0.5
    config.augment.mosaic_offset = "cut"
    config.augment.least_visible = 0.0
    config.augment.flip = 0.5
    config.augment.hue = 0.1
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    # As the published weights were trained: steps in place of the paper's cosine, and neither
    # label_smoothing nor the detector's adversarial_rate nor the model's drop_block.
    config.loss.box_gradient = "darknet"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1.3e-3
    config.optimizer.momentum = 0.949
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.002  # 1,000 updates
    config.optimizer.schedule.milestones = (0.8, 0.9)
    return config
