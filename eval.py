"""Evaluates the best checkpoint of a run: `python eval.py --help`."""

from jaxvision.cli.console import main

if __name__ == "__main__":
    main("eval")
