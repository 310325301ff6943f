"""Measures how fast JPEGs become batches for training, compared with torch's DataLoader.

  python benchmarks/input.py [--data FOLDER] [--images 512] [--batch 64] [--batches 8] [--rounds 5]

The script writes JPEGs of 500 x 375 pixels into a temporary folder: random parts of photographs,
those that scikit-learn carries or the images in --data. Both sides read a file, decode it, cut out
a random part of 8 to 100 % of its area, resize that to 224 x 224 with antialiasing, and stack the
uint8 images to batches. "ours" is `TrainLoader` with `ImageFolder` and `ToClassification` with
`crop_scale`, as in configs/imagenet_resnet50.py, NHWC. "torch" is `DataLoader` with torchvision's
`ImageFolder`, `RandomResizedCrop` and `PILToTensor`, NCHW.

The rows are "1 thread" (the reading thread of this process; torch: no workers) and "2 workers" (two
processes, of one thread each); and the same of ours from a cache, of the pixels that `jaxvision
cache --shorter_side=256` writes. In each round, every loader in turn is started, gives --warmup
batches, which are not measured and empty what was read ahead, and then --batches measured ones.
Numbers are medians over the rounds; "x" is ours divided by torch's: above 1 ours is faster. "CPU
ms" is the processor time of an image in this process and all its threads; it hardly depends on what
else runs. "worker MB" is the private memory of a worker process, and "shared MB" what it shares
with others. The last lines are the cores that feed an accelerator at some rates, by the images per
second of a core in each row.
"""

import argparse
import contextlib
import functools
import gc
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image
from timing import machine
from versus_torch import import_torchvision, torch

from jaxvision.core import Inputs
from jaxvision.data import (
    ImageCache,
    ImageFolder,
    Images,
    Photographs,
    RandomTransform,
    ReadOptions,
    ToClassification,
    TrainLoader,
    write_image_cache,
)
from jaxvision.data.sources.images import images_below

SIZE = 375, 500
SIDE = 224
SCALE = 0.08, 1.0
ROWS = {"1 thread": 0, "2 workers": 2}
FILES, CACHE = "ours", "ours, from a cache"
RATES = 3_000, 5_000, 8_000


def photographs(data):
    """The photographs that the JPEGs are parts of, each u8[H, W, 3]."""
    if data is None:
        return [Photographs(split=split)[0]["image"] for split in ("train", "test")]
    source = Images(images_below(pathlib.Path(data)))
    return [source[index]["image"] for index in range(min(len(source), 64))]


def write_jpegs(folder, photos, count, quality):
    """Writes random parts of photographs as JPEGs into two class folders; returns their bytes."""
    rng = np.random.default_rng(0)
    total = 0
    for number in range(count):
        photo = Image.fromarray(photos[number % len(photos)])
        most = min(photo.height / SIZE[0], photo.width / SIZE[1])
        height, width = (side * most * rng.uniform(0.7, 1) for side in SIZE)
        left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
        box = (left, top, left + width, top + height)
        file = folder / "ab"[number % 2] / f"{number:05}.jpg"
        file.parent.mkdir(exist_ok=True)
        photo.resize(SIZE[::-1], Image.Resampling.BICUBIC, box=box).save(file, quality=quality)
        total += file.stat().st_size
    return total


def our_loader(source, options, workers):
    inputs = Inputs((SIDE, SIDE), resize="crop", shorter_side=256)
    transform = RandomTransform(ToClassification(inputs, 2, crop_scale=SCALE))
    read = ReadOptions(threads=1, workers=workers)
    return TrainLoader(source, transform, batch_size=options.batch, seed=0, read=read)


def torch_loader(folder, options, workers):
    transforms = import_torchvision("transforms")
    datasets = import_torchvision("datasets")
    transform = transforms.Compose(
        [transforms.RandomResizedCrop(SIDE, scale=SCALE), transforms.PILToTensor()]
    )
    files = datasets.ImageFolder(folder, transform)
    count = (options.warmup + options.batches + 64) * options.batch
    sampler = torch.utils.data.RandomSampler(files, replacement=True, num_samples=count)
    return iter(
        torch.utils.data.DataLoader(files, options.batch, sampler=sampler, num_workers=workers)
    )


def memory_of(pid):
    """Private and shared memory of a process, MB; None where the system does not say."""
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
        private = kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]
        return private / 1e3, (kilobytes["Rss:"] - private) / 1e3
    return None


def measure(make, options):
    """Starts a loader: its images per second, CPU ms of an image, and the memory of its workers."""
    stream = make()
    for _ in range(options.warmup):
        next(stream)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(options.batches):
        next(stream)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    images = options.batches * options.batch
    memory = [memory_of(child.pid) for child in multiprocessing.active_children()]
    if hasattr(stream, "close"):
        stream.close()
    del stream
    gc.collect()
    return images / seconds, 1e3 * cpu / images, max(filter(None, memory), default=None)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a folder of photographs, instead of the embedded ones")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(pathlib.Path(folder), options)


def loaders_of(folder, options):
    """(row, side) -> function that starts the loader."""
    jpegs = ImageFolder(folder / "jpegs")
    write_image_cache(jpegs, folder / "cache", shorter_side=256)
    sources = {FILES: jpegs, CACHE: ImageCache(folder / "cache")}
    compared = import_torchvision("datasets") is not None
    if compared:
        torch.set_num_threads(1)
    else:
        print("torch or torchvision is not installed: its rows are omitted")
    loaders = {}
    for row in options.rows:
        for side, source in sources.items():
            loaders[row, side] = functools.partial(our_loader, source, options, ROWS[row])
        if compared:
            call = functools.partial(torch_loader, folder / "jpegs", options, ROWS[row])
            loaders[row, "torch"] = call
    return loaders


def compare(folder, options):
    jpegs = folder / "jpegs"
    jpegs.mkdir()
    size = write_jpegs(jpegs, photographs(options.data), options.images, options.quality)
    loaders = loaders_of(folder, options)
    found = {key: [] for key in loaders}
    for turn in range(options.rounds):
        for key in loaders if turn % 2 else reversed(loaders):
            found[key].append(measure(loaders[key], options))
            print(f"round {turn + 1}: {' '.join(key)} {found[key][-1][0]:.0f}", file=sys.stderr)

    print(f"{'':<30}images/s   CPU ms       x   worker MB   shared MB")
    rates = {key: statistics.median(x[0] for x in values) for key, values in found.items()}
    for (row, side), values in found.items():
        x = ""
        if side != "torch" and (row, "torch") in found:
            ratios = [a[0] / b[0] for a, b in zip(values, found[row, "torch"], strict=True)]
            x = f"{statistics.median(ratios):.2f}"
        cpu = f"{statistics.median(x[1] for x in values):.2f}" if not ROWS[row] else ""
        memory = values[-1][2] or ()
        megabytes = "".join(f"{value:>12,.0f}" for value in memory)
        print(f"{row + ', ' + side:<30}{rates[row, side]:>8.0f}{cpu:>9}{x:>8}{megabytes}")
    for row, side in found:
        if side != "torch":
            of_core = rates[row, side] / max(1, ROWS[row])
            cores = ", ".join(f"{rate / of_core:.1f} for {rate:,}" for rate in RATES)
            print(f"{row}, {side}: {of_core:.0f} images/s of a core, cores: {cores} images/s")
    print(
        f"{options.images} JPEGs of {SIZE[1]} x {SIZE[0]}, {size / options.images / 1e3:.0f} kB on "
        f"average, batch {options.batch}, {options.rounds} rounds of {options.batches} batches; "
        f"{machine('pillow', 'simplejpeg', 'cykooz-resizer', 'grain', 'torch', 'torchvision')}"
    )


if __name__ == "__main__":
    main()
