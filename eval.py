"""Evaluates the best checkpoint of a run: `python eval.py --help`."""

import sys

from jaxvision.cli.main import run

if __name__ == "__main__":
    sys.exit(run("eval", sys.argv))
