"""FCOS with ResNet-50 on COCO, with the settings of torchvision's weights.

    python train.py --config=configs/coco_fcos.py --workdir=runs/coco_fcos \\
        --config.data.dir=coco --config.init_from=resnet50:IMAGENET1K_V1

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. 26 epochs in batches of 16; torchvision's weights have an AP of 0.392.
config.init_from needs weights of ImageNet: the backbone's norms are frozen, so they keep the
statistics of these weights, and its first two stages are not trained.

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

    config.model.name = "fcos_resnet50_fpn"
    config.model.norm = "frozen_batch_norm"
    config.detector.trainable_backbone_layers = 3

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
    config.data.workers = 8

    config.augment.preset = "hflip"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.0053  # 1,000 updates
    config.optimizer.schedule.milestones = (0.6154, 0.8462)  # epochs 16 and 22
    return config
