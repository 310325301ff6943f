"""Configs of networks that Darknet's .cfg files describe."""

import pathlib

from ml_collections import ConfigDict

from jaxvision.cli.config import default_config
from jaxvision.cli.kinds.darknet import DARKNET
from jaxvision.core import InputError
from jaxvision.interop import read_cfg


def config_of_cfg(file: str) -> ConfigDict:
    """The default config of detection with the network that a description has.

    Its data are unknown: `data.source` is empty.

    Raises:
      InputError: the file cannot be read, or its images are not square.
    """
    config = default_config("detection")
    config.data.update(source="", validation_fraction=0.0)  # nothing is trained
    set_cfg(config, file)
    return config


def fine_tuning_config(file: str) -> ConfigDict:
    """Likewise, with settings for training on a folder of data.

    Raises:
      InputError: as for `config_of_cfg`.
    """
    config = config_of_cfg(file)
    config.update(steps=2000, batch_size=16, eval_every=200)
    config.best.metric = "AP50"
    config.data.validation_fraction = 0.1
    config.augment.update(jitter=0.2, flip=0.5, hue=0.1, saturation=1.5, value=1.5)
    config.optimizer.update(name="adamw", learning_rate=3e-4, weight_decay=0.05)
    config.optimizer.schedule.update(name="one_cycle", warmup=0.1)
    return config


def set_cfg(config: ConfigDict, file: str) -> None:
    """Makes the network of a config for detection the one that a description has.

    The detector and its loss are those of the description, as are its anchors, and the size and the
    resizing of images.

    Raises:
      InputError: the config is for another task; the file cannot be read, or its images are not
        square.
    """
    if config.task != "detection":
        raise InputError(f"--cfg is for detection, but the config is for {config.task}")
    path = pathlib.Path(file).expanduser()
    description = read_cfg(path)
    height, width, _ = description.image
    if height != width:
        raise InputError(f"{file} has images of {height} x {width}: only square ones are supported")
    default = default_config("detection")
    with config.unlocked():
        config.model = ConfigDict({"name": DARKNET, "cfg": str(path.absolute())})
        config.detector, config.loss = default.detector, default.loss
    config.anchors = ()
    config.data.update(image_size=height, resize=description.resize)
