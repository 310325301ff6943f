"""A small ResNet with batch norm on the embedded digits, for tests that start processes."""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.steps = 60
    config.batch_size = 32
    config.eval_every = 20
    config.checkpoint_every = 7
    config.log_every = 10

    config.model.name = "resnet20"
    config.model.blocks = 1
    config.model.widths = (4,)
    config.data.image_size = 8
    config.data.cache = True
    config.augment.padding = 1
    return config
