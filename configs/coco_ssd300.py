"""SSD300 with VGG-16 on COCO, with the settings of torchvision's weights.

    python train.py --config=configs/coco_ssd300.py --workdir=runs/coco_ssd300 \\
        --config.data.dir=coco --config.init_from=vgg16:IMAGENET1K_FEATURES

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. 120 epochs in batches of 32; torchvision's weights have an AP of 0.251, of
images that are resized in floating point (--config.data.resampling=float32). config.init_from needs
Caffe's weights of VGG-16, which take values in 0..255: torchvision's
VGG16_Weights.IMAGENET1K_FEATURES. Other weights of VGG-16 need another config.data.mean and
config.data.std. The first stage is not trained. It has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import COCO_CLASSES
from jaxvision.models.detection.ssd import VGG_RULES


def get_config():
    config = default_config("detection")
    config.steps = 439_700
    config.batch_size = 32
    config.eval_every = 3664

    config.init_key_map = VGG_RULES  # names of the last stage differ
    config.model.name = "ssd300_vgg16"
    config.detector.layout = "ssd300"
    config.detector.trainable_backbone_layers = 4
    config.loss.forced = "best"

    config.data.source = "coco"
    config.data.train_split = "train2017"
    config.data.test_split = "val2017"
    config.data.class_names = COCO_CLASSES
    config.data.validation_fraction = 0.01
    config.data.drop_bad = True  # some boxes have no area, or reach beyond the image
    config.data.image_size = 300
    config.data.resize = "stretch"
    config.data.mean = (0.48235, 0.45882, 0.40784)
    config.data.std = (1 / 255, 1 / 255, 1 / 255)
    config.data.workers = 8

    config.augment.preset = "ssd"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.0023  # 1,000 updates
    config.optimizer.schedule.milestones = (0.6667, 0.9167)  # epochs 80 and 110
    return config
