"""RetinaNet on COCO, with the settings of torchvision's weights of the second version.

    python train.py --config=configs/coco_retinanet_v2.py --workdir=runs/coco_retinanet_v2 \\
        --config.data.dir=coco --config.init_from=resnet50:IMAGENET1K_V2

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. 26 epochs in batches of 16, at a shorter side that is drawn for each batch;
torchvision's weights have an AP of 0.415. The whole backbone is trained, from weights of ImageNet
(config.init_from; torchvision's of the second version), with batch norm over all devices. The
boxes' loss is GIoU.

Torchvision's figures are those of images one by one, each with a shape of its own: evaluate with
--config.data.shapes=exact --config.data.resampling=float32. In bfloat16:
--config.model.dtype=bfloat16. It has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import COCO_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 190_500
    config.batch_size = 16
    config.eval_every = 7327

    config.model.name = "retinanet_resnet50_fpn_v2"
    config.loss.box_loss = "giou"

    config.data.source = "coco"
    config.data.train_split = "train2017"
    config.data.test_split = "val2017"
    config.data.class_names = COCO_CLASSES
    config.data.validation_fraction = 0.01
    config.data.drop_bad = True  # some boxes have no area, or reach beyond the image
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.resize = "shorter_side"
    config.data.shorter_side = 800
    config.data.longer_side = 1333
    config.data.shapes = "buckets"
    config.data.sizes = tuple(range(480, 801, 32))
    config.data.size_every = 1
    config.data.workers = 8

    config.augment.preset = "multiscale"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.0053  # 1,000 updates
    config.optimizer.schedule.milestones = (0.6154, 0.8462)  # epochs 16 and 22
    return config
