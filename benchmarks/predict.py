"""Measures images per second from files to predictions and written pictures.

  python benchmarks/predict.py [--images 200] [--size 320 240] [--rounds 3] [--kinds ...]

"folder" is what `jaxvision predict` does for a folder: threads read and resize images, batches go
over images, and threads draw and write pictures. "one by one" reads, predicts, draws and writes one
image after the other, in batches of one. Both run in turns, with compiled networks; the images are
noise in which neighbouring pixels are alike, as JPEGs, and the weights are random. "read", "draw"
and "write" are the milliseconds that these take for one image alone, in one thread.

--folder instead runs the command itself on a folder of images, with a run:

  python benchmarks/predict.py --folder photos --workdir runs/mine
"""

import argparse
import itertools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from PIL import Image
from timing import machine

from jaxvision.core import Inputs
from jaxvision.core.threads import in_order
from jaxvision.models import create_model
from jaxvision.predict import Failed, draw_prediction, predict, read_image, write_picture
from jaxvision.tasks import classification, restoration, segmentation

NAMES = tuple(f"class {number}" for number in range(10))


def tasks():
    """Name -> task: of whole images, and of tiles."""
    small = create_model("resnet20", num_classes=10)
    large = create_model("resnet18", num_classes=10)
    unet = create_model("unet", widths=(8, 16, 32), num_classes=3)
    dncnn = create_model("dncnn_s", depth=5, width=16)
    return {
        "resnet20 at 32": classification(
            small, Inputs((32, 32), resize="stretch"), class_names=NAMES
        ),
        "resnet18 at 224": classification(
            large, Inputs((224, 224), resize="stretch"), class_names=NAMES
        ),
        "U-Net, tiles of 256": segmentation(
            unet, Inputs((256, 256), resize=None), class_names=NAMES[:3]
        ),
        "DnCNN, tiles of 128": restoration(dncnn, Inputs((128, 128), resize=None)),
    }


def write_images(folder, count, size):
    """Writes JPEGs of (width, height), and of the same size turned; returns their paths."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
        shape = size if number % 3 else size[::-1]
        paths.append(folder / f"{number:04}.jpg")
        coarse.resize(shape, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def written(prediction, task, out):
    """Draws a prediction and writes the picture."""
    if isinstance(prediction, Failed):
        raise SystemExit(prediction.reason)
    picture = draw_prediction(prediction, task.kind, task.class_names or NAMES)
    write_picture(out / f"{pathlib.Path(prediction.source).stem}.png", picture)


def as_folder(task, variables, paths, out):
    found = predict(task, variables, paths, batch_size=8)
    for _ in in_order(lambda x: written(x, task, out), found, ahead=8):
        pass


def one_by_one(task, variables, paths, out):
    for path in paths:
        (found,) = predict(task, variables, [path], batch_size=1)
        written(found, task, out)


def parts(task, variables, paths, out):
    """Milliseconds of reading, drawing and writing one image, the median over some."""
    times = {"read": [], "draw": [], "write": []}
    for prediction in itertools.islice(predict(task, variables, paths), 20):
        began = time.perf_counter()
        read_image(prediction.source)
        read = time.perf_counter()
        picture = draw_prediction(prediction, task.kind, task.class_names or NAMES)
        drawn = time.perf_counter()
        write_picture(out / "one.png", picture)
        ends = (read, drawn, time.perf_counter())
        for name, start, end in zip(times, (began, read, drawn), ends, strict=True):
            times[name].append((end - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(task, paths, rounds, out):
    """Images per second of both ways, the medians over rounds, and milliseconds of the parts."""
    variables = jax.jit(task.init)(jax.random.key(0))
    ways = {"folder": as_folder, "one by one": one_by_one}
    for way in ways.values():
        way(task, variables, paths[:9], out)  # compile
    speeds = {name: [] for name in ways}
    for turn in range(rounds):
        # The order alternates, so that neither always comes second.
        for name in list(ways) if turn % 2 else list(reversed(ways)):
            began = time.perf_counter()
            ways[name](task, variables, paths, out)
            speeds[name].append(len(paths) / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return medians, parts(task, variables, paths, out)


def of_command(workdir, folder, rounds):
    """Seconds of the command for the folder, and for one of its images: the start."""
    images = sorted(path for path in folder.iterdir() if path.is_file())
    times = {"all": [], "one": []}
    with tempfile.TemporaryDirectory() as out:
        for _, name in itertools.product(range(rounds), times):
            given = [str(folder)] if name == "all" else [str(images[0])]
            program = "from jaxvision.cli.console import main; main()"
            call = [sys.executable, "-c", program, "predict", f"--workdir={workdir}"]
            began = time.perf_counter()
            subprocess.run([*call, f"--out={out}", *given], check=True, capture_output=True)
            times[name].append(time.perf_counter() - began)
    whole, start = (statistics.median(values) for values in times.values())
    rate = (len(images) - 1) / (whole - start)
    print(f"{len(images)} images: {whole:.1f} s, of which one takes {start:.1f} s")
    print(f"{rate:.1f} images/s after the start")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=[320, 240], help="width and height")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", help="the first words of rows; default: all")
    parser.add_argument("--folder", type=pathlib.Path, help="of images, for the command itself")
    parser.add_argument("--workdir", help="with --folder: of a run")
    options = parser.parse_args()
    if options.folder:
        of_command(options.workdir, options.folder, options.rounds)
        print(machine("pillow"))
        return
    print("network               folder: images/s   one by one       x   ms: read   draw   write")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths = write_images(folder, options.images, tuple(options.size))
        out = folder / "out"
        out.mkdir()
        for name, task in tasks().items():
            if options.kinds and name.split()[0].rstrip(",") not in options.kinds:
                continue
            speed, ms = measure(task, paths, options.rounds, out)
            print(
                f"{name:<20} {speed['folder']:>18.1f} {speed['one by one']:>12.1f} "
                f"{speed['folder'] / speed['one by one']:>7.2f} {ms['read']:>10.1f} "
                f"{ms['draw']:>6.1f} {ms['write']:>7.1f}",
                flush=True,
            )
    print(f"{options.images} images of {options.size[0]} x {options.size[1]}; {machine('pillow')}")


if __name__ == "__main__":
    main()
