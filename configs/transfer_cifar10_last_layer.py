"""Trains a new last layer of a ResNet-20 of CIFAR-10 on little similar data: 10 images a class.

    python train.py --config=configs/transfer_cifar10_last_layer.py --config.data.dir=cifar10.npz \\
        --config.init_from=resnet20.th --config.init_prefix=module.

The weights are those of github.com/akamaster/pytorch_resnet_cifar10, or any others for a ResNet-20.
All layers are frozen except the last one, with the statistics of batch norm. With the cifar10.npz
of docs/transfer.md it costs 18 s on 2 cores of an AMD EPYC (2026-11-22) and reaches 0.912 on 1,000
test images; the same network from random weights reaches 0.269.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.reinit = ("fc",)
    config.freeze = ("conv1", "bn1", "layer*")
    config.freeze_statistics = ("*",)
    config.steps = 200
    config.batch_size = 50
    config.eval_every = 50

    config.model.name = "resnet20"
    config.data.source = "npz"
    config.data.per_class = 10
    config.data.validation_fraction = 0.0
    config.data.channels = 3
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.augment.flip = True
    config.augment.padding = 4

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "cosine"
    return config
