"""ResNet-50 on ImageNet in bfloat16 on 8 devices: as `imagenet_resnet50`, at a batch of 1,024.

    python train.py --config=configs/imagenet_resnet50_bfloat16.py --config.data.dir=DIR

The learning rate grows with the batch (Goyal et al. 2017, section 2.1). Parameters, statistics and
the logits' loss stay float32. Not run in full yet: neither cost nor metric are known.
"""

import pathlib
import runpy

BATCH_SIZE = 1024


def get_config():
    single = pathlib.Path(__file__).with_name("imagenet_resnet50.py")
    config = runpy.run_path(str(single))["get_config"]()
    factor = BATCH_SIZE / config.batch_size
    config.batch_size = BATCH_SIZE
    config.steps = round(config.steps / factor)
    config.eval_every = round(config.eval_every / factor)
    config.optimizer.learning_rate *= factor
    config.model.dtype = "bfloat16"
    config.data.workers = 64
    return config
