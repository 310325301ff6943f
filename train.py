"""Trains the run of a config, or resumes it: `python train.py --help`."""

from jaxvision.cli.console import main

if __name__ == "__main__":
    main("train")
