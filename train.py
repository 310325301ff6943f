"""Trains the run of a config, or resumes it: `python train.py --help`."""

import sys

from jaxvision.cli.main import run

if __name__ == "__main__":
    sys.exit(run("train", sys.argv))
