"""DeepLabv3 on ResNet-101 on Pascal VOC 2012's segmentation, with the settings of its paper.

    python train.py --config=configs/voc_deeplabv3.py --workdir=runs/voc_deeplabv3 \\
        --config.data.dir=VOCdevkit/VOC2012 --config.init_from=resnet101:IMAGENET1K_V1

The paper's first stage: maps of stride 16 with the rates 6, 12 and 18, crops of 513x513 of images
that are scaled by 0.5 to 2, 16 images a step, 30,000 steps, and a learning rate that falls from
0.007 by a power of 0.9. Trains on train (1,464 images) and tests on val (1,449). The paper trains
on 10,582 images (Hariharan et al. 2011: their masks and lists fit into the same folders), begins
with a ResNet-101 of ImageNet, and reaches a mean IoU of 0.7721 on val. It has multi-grid dilations
in the last stage of the ResNet, which are not here, and slower running statistics of batch norms
(0.9997, here 0.9). Weight decay and momentum are those of torchvision's reference training.

The second stage goes on from there with stride 8, fixed statistics and a lower learning rate:

    python train.py --config=configs/voc_deeplabv3.py --workdir=runs/voc_deeplabv3_stride8 \\
        --config.data.dir=VOCdevkit/VOC2012 --config.init_from=runs/voc_deeplabv3 \\
        --config.model.backbone.replace_stride_with_dilation='(False, True, True)' \\
        --config.model.rates='(12, 24, 36)' --config.freeze_statistics="('*',)" \\
        --config.optimizer.learning_rate=0.001 --config.data.train_split=trainval

--config.model.aux=True adds torchvision's second head, whose loss is multiplied by
config.auxiliary.factor, 0.5 as there. For a GPU; not run in full: neither cost nor metric are
known.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES


def get_config():
    config = default_config("segmentation")
    config.steps = 30_000
    config.batch_size = 16
    config.eval_every = 1000

    config.model.name = "deeplabv3_resnet101"
    config.model.backbone = {
        "name": "resnet101",
        "replace_stride_with_dilation": (False, False, True),
    }
    config.model.rates = (6, 12, 18)

    config.data.source = "voc"
    config.data.train_split = "train"
    config.data.test_split = "val"
    config.data.class_names = ("background", *VOC_CLASSES)
    config.data.image_size = 513  # the longer side; what is beside an image does not count
    config.data.resize = "letterbox"
    config.data.validation_fraction = 0.05
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.threads = 8

    config.augment.scale = (0.5, 2.0)
    config.augment.translate = 0.25
    config.augment.flip = 0.5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.007
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule.name = "polynomial"
    return config
