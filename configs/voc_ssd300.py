"""SSD300 with VGG-16 on Pascal VOC 2007 + 2012, with the settings of its paper.

    python train.py --config=configs/voc_ssd300.py --workdir=runs/voc_ssd300 \\
        --config.data.dir=VOCdevkit --config.init_from=vgg16:IMAGENET1K_FEATURES

The folder has VOC2007 and VOC2012 as they are unpacked. Training is on both trainval sets (16,551
images), testing on VOC2007's test set. 120,000 updates of 32 images; the paper reaches 0.743 mAP
(0.772 with the zoom-out, which "ssd" has). config.init_from needs Caffe's weights of VGG-16, which
take values in 0..255: torchvision's VGG16_Weights.IMAGENET1K_FEATURES. Other weights of VGG-16 need
another config.data.mean and config.data.std. The default boxes are the authors', and each object
has one of its own, as in the paper. It has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES
from jaxvision.models.detection.ssd import VGG_RULES


def get_config():
    config = default_config("detection")
    config.steps = 120_000
    config.batch_size = 32
    config.eval_every = 2000
    config.best.metric = "mAP_VOC"

    config.init_key_map = VGG_RULES  # names of the last stage differ
    config.model.name = "ssd300_vgg16"
    config.detector.layout = "ssd300_paper"

    config.data.source = "voc"
    config.data.train_split = "VOC2007/trainval+VOC2012/trainval"
    config.data.test_split = "VOC2007/test"
    config.data.class_names = VOC_CLASSES
    config.data.validation_fraction = 0.02
    config.data.image_size = 300
    config.data.resize = "stretch"
    config.data.mean = (0.48235, 0.45882, 0.40784)
    config.data.std = (1 / 255, 1 / 255, 1 / 255)
    config.data.workers = 8

    config.augment.preset = "ssd"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.0083  # 1,000 updates
    config.optimizer.schedule.milestones = (0.6667, 0.8333)  # 80,000 and 100,000 updates
    return config
