"""Configs: every key with its default and meaning, and how a file of `configs/` is found."""

import ast
import importlib.util
import inspect
import pathlib
import re

from ml_collections import ConfigDict, config_dict

from jaxvision.core import InputError, close_names, lookup


def default_config(task: str = "classification") -> ConfigDict:
    """All keys of a task's config; a file in `configs/` changes what it needs.

    Args:
      task: a key of `jaxvision.tasks.TASKS`.
    Raises:
      InputError: there is no such task.
    """
    config = ConfigDict()
    config.task = task
    config.seed = 0  # of the initialisation, the order of the data and all randomness in training
    config.steps = 1000  # updates in all
    # begin with the weights of a run, of `jaxvision convert`, or of a file in torch's layout
    config.init_from = config_dict.placeholder(str)
    config.init_prefix = ""  # taken off such a file's keys where they have it: "module."
    # names, as in freeze, of what begins at random all the same: ("fc",)
    config.init_except = ()
    # names of parameters that stay as they are, as ("conv1", "layer[12]*"): * and ? stand for any
    # characters, and a name's beginning up to a / is enough; batch norms' statistics go on moving
    config.freeze = ()
    # likewise, of batch norms that use the statistics that they have, and keep them: ("*",) for all
    config.freeze_statistics = ()
    config.batch_size = 64  # of the global batch, over all devices and processes
    config.eval_every = 100  # steps between evaluations, each followed by a checkpoint
    config.checkpoint_every = 0  # steps between further checkpoints; 0: none
    config.keep = 2  # last checkpoints to keep, beside the best; at least 2
    config.log_every = 100  # steps between two lines of progress, where there is no bar
    config.parallel = "pmap"  # or "shard_map"
    config.deterministic = False  # the same bits from run to run on a GPU too, at some cost

    config.head_first = ConfigDict()  # what is new trains alone before the rest of the run
    config.head_first.steps = 0  # of the run's; 0: all trains from the first step on
    config.head_first.train = ()  # names, as in freeze: ("fc",)
    config.head_first.learning_rate = config_dict.placeholder(float)  # None: as in optimizer

    config.best = ConfigDict()  # which checkpoint is best
    config.best.metric = ""  # of the validation part
    config.best.mode = "max"  # or "min"
    config.best.patience = 0  # evaluations without a better one before stopping early; 0: never

    config.model = ConfigDict()  # besides the name, a config file may set any field of the network
    config.model.name = ""

    config.data = ConfigDict()
    config.data.source = ""
    config.data.name = config_dict.placeholder(str)  # of the TFDS data set
    # folder of the data, or the file of an npz; None: TFDS's own
    config.data.dir = config_dict.placeholder(str)
    config.data.validation_fraction = 0.1  # share of the training part to choose the best by
    config.data.image_size = 32  # height and width that the network gets
    config.data.cache = False  # keep decoded records in memory
    config.data.threads = 2  # that read batches, in each process that reads
    config.data.workers = 0  # processes that read; 0: threads of the main process do

    config.augment = ConfigDict()
    config.loss = ConfigDict()  # besides the name, a config file may set any option of the loss
    config.loss.name = ""

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # "sgd", "adam" or "adamw"
    config.optimizer.learning_rate = 0.1  # the peak
    config.optimizer.momentum = 0.9  # sgd
    config.optimizer.nesterov = False  # sgd
    config.optimizer.b1 = 0.9  # adam and adamw
    config.optimizer.b2 = 0.999  # adam and adamw
    config.optimizer.weight_decay = 0.0  # not on biases and norms
    config.optimizer.clip_norm = 0.0  # largest global norm of the gradient; 0: any
    # (name, as in freeze; factor of the learning rate) pairs, after the head's own steps:
    # (("layer1*", 0.1), ("fc", 10.0))
    config.optimizer.rates = ()
    # decay of running means of all weights, which are evaluated instead of them; 0: none
    config.optimizer.ema_decay = 0.0

    config.optimizer.schedule = ConfigDict()
    # "constant", "step", "cosine", "one_cycle" or "plateau"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.0  # step, cosine, one_cycle: share of the run that goes up
    config.optimizer.schedule.milestones = (0.5, 0.75)  # step: shares of the run
    config.optimizer.schedule.factor = 0.1  # step, plateau: what the rate is multiplied by
    config.optimizer.schedule.window = 0.02  # plateau: share of the run to average losses over
    config.optimizer.schedule.patience = 2  # plateau: windows without a better loss
    lookup(_PARTS, task, "task")(config)
    return config


def _classification(config: ConfigDict) -> None:
    config.best.metric = "accuracy"
    config.model.name = "lenet5"

    # "digits" (embedded), "folder" (DIR/SPLIT/CLASS/), "idx" (MNIST's), "npz" (arrays) or "tfds"
    config.data.source = "digits"
    config.data.train_split = "train"  # of a folder, npz or TFDS
    config.data.test_split = "test"  # likewise
    # images of each class to train on, once the validation part is taken off; 0: all the rest
    config.data.per_class = 0
    config.data.resize = config_dict.placeholder(str)  # nearest, bilinear, bicubic; None: refuse
    # pixels to which the shorter side is resized, before the middle is taken; None: resize it all
    config.data.shorter_side = config_dict.placeholder(int)
    config.data.channels = 1  # 1: grey, 3: RGB
    config.data.num_classes = 10
    # in the labels' order; (): of a folder as its classes are called, of other sources numbers
    config.data.class_names = ()
    config.data.mean = (0.5,)  # per channel, of values in 0..1
    config.data.std = (0.5,)

    # least and largest share of the image that a random window shows, instead of the middle
    config.augment.crop_scale = config_dict.placeholder(tuple)
    # that window is of the image in the network's size: cheaper, but less sharp
    config.augment.crop_on_device = False
    config.augment.flip = False  # left and right
    config.augment.padding = 0  # pixels on each side before a random crop
    config.augment.degrees = 0.0  # of a random rotation either way
    config.augment.brightness = 0.0  # largest change of the factor 1, either way
    config.augment.contrast = 0.0  # likewise
    config.augment.saturation = 0.0  # likewise
    config.augment.hue = 0.0  # the largest shift, in turns
    config.augment.rand_augment = 0  # RandAugment: operations in a row
    config.augment.rand_augment_magnitude = 9  # of all of them, in 0..30
    config.augment.mixup = 0.0  # probability: two images over each other, labels likewise
    config.augment.mixup_alpha = 0.2  # of mixup's beta distribution
    config.augment.cutmix = 0.0  # probability, beside mixup's: a box of another image
    config.augment.cutmix_alpha = 1.0  # of its beta distribution

    config.loss.name = "cross_entropy"  # or "softmax_focal_loss", "file.py:function" of your own


def _detection(config: ConfigDict) -> None:
    config.best.metric = "AP"  # or "AP50", "AP75", "mAP_VOC", ...
    config.model.name = "yolov2"
    config.anchors = ()  # (width, height) of each in pixels of the input, all maps'; not of YOLOv1

    # "scenes" (embedded), "voc", "coco" or "yolo" (folders in these forms), or "tfds"
    config.data.source = "scenes"
    config.data.train_split = "train"  # of a folder or TFDS; parts of a folder as "a/train+b/train"
    config.data.test_split = "test"  # likewise
    config.data.class_names = ()  # of the labels, in their order; (): those that the data names
    config.data.drop_bad = False  # leave out records with bad boxes or images, and count them
    config.data.difficult = False  # train on objects that are flagged as difficult too
    config.data.first_pixel = 1  # voc: what the files call an image's first pixel
    config.data.masks = False  # read the objects' masks too
    config.data.resize = "letterbox"  # keeps the image's form; or "stretch"
    config.data.max_boxes = 100  # to which the boxes of an image are padded
    config.data.sizes = ()  # multi-scale training: sizes instead of image_size, drawn at random
    config.data.size_every = 10  # batches between two draws of the size
    config.data.mean = (0.0, 0.0, 0.0)  # per channel, of values in 0..1
    config.data.std = (1.0, 1.0, 1.0)

    config.augment.mosaic = 0.0  # probability: four images around a random centre
    config.augment.mixup = 0.0  # probability: two images over each other
    config.augment.mixup_alpha = 1.5  # of mixup's beta distribution
    config.augment.jitter = 0.0  # Darknet's crop: share of the side that each border moves
    config.augment.scale = (1.0, 1.0)  # least and largest factor
    config.augment.ratio = (1.0, 1.0)  # least and largest factor of width over height
    config.augment.translate = 0.0  # the largest move, as a share of the side
    config.augment.flip = 0.0  # probability: left and right
    config.augment.hue = 0.0  # the largest shift, in turns
    config.augment.saturation = 1.0  # the largest factor
    config.augment.value = 1.0  # the largest factor
    config.augment.least_visible = 0.25  # share of a box that must be left for it to stay
    config.augment.least_side = 1.0  # pixels of what is left

    # of the model's version, "yolov1_loss" to "yolov3_loss", or "file.py:function" of your own
    config.loss.name = "yolov2_loss"

    config.detect = ConfigDict()  # what becomes of the predictions
    config.detect.score_threshold = 0.005  # least score
    config.detect.iou_threshold = 0.45  # above it, the lower of two boxes of a class falls
    config.detect.max_detections = 100  # of an image
    config.detect.max_candidates = 1000  # of an image, that enter the suppression
    config.detect.best_box_only = False  # YOLOv1: of each cell, only the surest box


def _segmentation(config: ConfigDict) -> None:
    config.best.metric = "mean_iou"  # or "dice", "pixel_accuracy"
    config.model.name = "unet"

    # "scenes" (embedded), "folder" (of images and masks), "voc" or "tfds"
    config.data.source = "scenes"
    config.data.mask = "segmentation_mask"  # tfds: the masks' key
    config.data.train_split = "train"  # of a folder or TFDS
    config.data.test_split = "test"  # likewise
    config.data.class_names = ()  # of the labels 0, 1, ...; the first is the background
    config.data.resize = config_dict.placeholder(str)  # "letterbox" or "stretch"; None: refuse
    config.data.mean = (0.0, 0.0, 0.0)  # per channel, of values in 0..1
    config.data.std = (1.0, 1.0, 1.0)

    config.augment.scale = (1.0, 1.0)  # least and largest factor
    config.augment.ratio = (1.0, 1.0)  # least and largest factor of width over height
    config.augment.translate = 0.0  # the largest move, as a share of the side
    config.augment.elastic = 0.0  # pixels, of the moves of a coarse grid; 0: none
    config.augment.flip = 0.0  # probability: left and right
    config.augment.hue = 0.0  # the largest shift, in turns
    config.augment.saturation = 1.0  # the largest factor
    config.augment.value = 1.0  # the largest factor

    # or "binary_cross_entropy", one class without a background; options: the factors
    # cross_entropy=1, focal=0 and dice=0, class_weights (or positive_weight), gamma, smooth.
    # Or "file.py:function" of your own
    config.loss.name = "cross_entropy"

    # the loss of a network's map "aux": besides the factor, options of the loss that differ there
    config.auxiliary = ConfigDict()
    config.auxiliary.factor = 0.5  # by which it is multiplied


def _landmarks(config: ConfigDict) -> None:
    config.best.metric = "pixel_error"
    config.best.mode = "min"
    config.model.name = "unet"

    config.data.source = "scenes"  # "scenes" (embedded) or "folder" (of images and a table)
    config.data.train_split = "train"  # of a folder
    config.data.test_split = "test"  # likewise
    config.data.class_names = ()  # of the landmarks, in their order; (): those that the data names
    config.data.resize = "letterbox"  # keeps the image's form; or "stretch"
    config.data.mean = (0.0, 0.0, 0.0)  # per channel, of values in 0..1
    config.data.std = (1.0, 1.0, 1.0)

    config.augment.scale = (1.0, 1.0)  # least and largest factor
    config.augment.ratio = (1.0, 1.0)  # least and largest factor of width over height
    config.augment.translate = 0.0  # the largest move, as a share of the side
    config.augment.flip = 0.0  # probability: left and right
    # flip: what each landmark becomes in the mirror, such as (1, 0, 2) for two eyes and a nose
    config.augment.swap = ()
    config.augment.hue = 0.0  # the largest shift, in turns
    config.augment.saturation = 1.0  # the largest factor
    config.augment.value = 1.0  # the largest factor

    # or "heatmap_l2_loss", "file.py:function" of your own
    config.loss.name = "heatmap_cross_entropy"

    config.decode = ConfigDict()  # how maps become points
    config.decode.method = "soft_argmax"  # or "argmax", with a parabola through its neighbours
    # soft_argmax: pixels of the maps either way from the highest that count; 0: all pixels
    config.decode.radius = 3
    config.decode.temperature = 1.0  # soft_argmax: by which the maps are divided


def _restoration(config: ConfigDict) -> None:
    config.best.metric = "psnr"  # or "ssim"
    config.model.name = "dncnn_s"

    config.data.source = "photographs"  # two that are embedded, or "folder"
    config.data.train_split = "train"  # of a folder: the folder in it
    config.data.test_split = "test"  # likewise
    config.data.image_size = 40  # height and width of the patches to train on
    config.data.patches = 512  # of each photograph, at random places
    config.data.tile = 128  # height and width of the tiles that cover photographs to be measured
    config.data.margin = 16  # pixels around what is kept of a tile
    config.data.color = "rgb"  # or "grey", "luminance": what is restored
    # "gaussian_noise", "downscale" for networks that enlarge, or "downscale_upscale"
    config.degradation = ConfigDict()
    config.degradation.name = "gaussian_noise"  # options: sigma=(25, 25); of the others: factor=3

    config.augment.symmetry = True  # turn and mirror patches: the eight symmetries of a square

    # or "l1_loss", "huber_loss", "smooth_l1_loss", "file.py:function" of your own
    config.loss.name = "l2_loss"


_PARTS = {
    "classification": _classification,
    "detection": _detection,
    "landmarks": _landmarks,
    "restoration": _restoration,
    "segmentation": _segmentation,
}


def documented_keys(task: str = "classification") -> dict[str, str]:
    """Key -> its comment in `default_config`, in the order there."""
    comments, above = {}, ""
    source = inspect.getsource(default_config) + inspect.getsource(_PARTS[task])
    for line in source.splitlines():
        if match := re.fullmatch(r"    config\.([\w.]+) = (?:[^#]*)(?:# (.*))?", line):
            comments[match[1]] = match[2] or above or comments.get(match[1], "")
        said = line.strip().removeprefix("# ") if line.strip().startswith("#") else None
        above = "" if said is None else f"{above} {said}".strip()
    return comments


def configs_folder() -> pathlib.Path:
    """Where the shipped configs are: in the package, or beside it in a checkout."""
    package = pathlib.Path(__file__).parent.parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, pathlib.Path]:
    """Name -> file of every shipped config."""
    return {path.stem: path for path in sorted(configs_folder().glob("[!_]*.py"))}


def summary(path: pathlib.Path) -> str:
    """The first line of a config's docstring; empty for a file that is not Python."""
    try:
        return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    except (SyntaxError, ValueError):
        return ""


def find_config(name: str) -> pathlib.Path:
    """The file that `--config=NAME` means: a path, or the name of a shipped config.

    Raises:
      InputError: there is neither; names the close ones.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.stem in shipped and name in (path.stem, f"configs/{path.stem}.py"):
        return shipped[path.stem]
    raise InputError(f"no config {name!r}: {close_names(path.stem, shipped)}")


def load_config(path: pathlib.Path) -> ConfigDict:
    """What the `get_config` of a file gives.

    Raises:
      InputError: the file fails, or has no such function, or that returns no config; names the
        line.
    """
    path = path.absolute()  # as in tracebacks
    spec = importlib.util.spec_from_file_location(f"jaxvision_config_{path.stem}", path)
    if spec is None:
        raise InputError(f"config {path} is no Python file: give a .py file with get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # anything may go wrong in a user's file
        trace, line = error.__traceback__, "?"
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        raise InputError(
            f"config {path}, line {getattr(error, 'lineno', line)}: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"config {path}: get_config() returns {type(config).__name__}: return a ConfigDict, "
            "such as that of jaxvision.cli.config.default_config()"
        )
    return config
