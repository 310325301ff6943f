"""FCN-8s on VGG-16 on Pascal VOC 2012's segmentation, with the settings of its paper.

    python train.py --config=configs/voc_fcn8s.py --workdir=runs/voc_fcn8s \\
        --config.data.dir=VOCdevkit/VOC2012 --config.init_from=runs/my_vgg16

Trains on train (1,464 images) and tests on val (1,449). The paper has 8,498 more training images
(Hariharan et al. 2011: their masks and lists fit into the same folders), begins with a VGG-16 that
was trained on ImageNet, and reaches a mean IoU of 0.627 on VOC 2011's test set, 0.622 on 2012's. A
step takes 20 images, as there; the learning rate, 1e-4 a sum over pixels there, is that of a mean
over pixels here. For a GPU; not run in full: neither cost nor metric are known.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES


def get_config():
    config = default_config("segmentation")
    config.steps = 13_000  # 175 epochs
    config.batch_size = 20
    config.eval_every = 500

    config.model.name = "fcn8s_vgg16"

    config.data.source = "voc"
    config.data.train_split = "train"
    config.data.test_split = "val"
    config.data.class_names = ("background", *VOC_CLASSES)
    config.data.image_size = 500  # the longer side; what is beside an image does not count
    config.data.resize = "letterbox"
    config.data.validation_fraction = 0.05
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.threads = 8

    config.augment.flip = 0.5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.momentum = 0.99  # of the release
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "constant"
    return config
