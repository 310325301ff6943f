"""Prints the table of docs/fuzzing.md: python -m tests.fuzz > docs/fuzzing.md

python -m tests.fuzz FORMAT SEED makes one input again, leaves it and says what is wrong.
"""

import collections
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.fuzz.formats import FORMATS
from tests.fuzz.outcomes import READ, REFUSED, WrongError, run, sample_of

INPUTS = 10_000
PAGE = """\
# Fuzzing

Small samples of every format that the library reads are damaged: cut, with bits, lines, fields and
numbers changed, doubled or removed, in other encodings, nested deeply, with pipes and folders in
the place of files. Each input is read, and then equals what an independent reader reads (json,
Pillow, defusedxml, numpy, safetensors, torch); or it is refused with an error of at most ten lines.
Nothing else may happen: no other exception, no wait beyond {seconds:g} s, no growth of the memory.

`python -m tests.fuzz` makes this page, and `python -m tests.fuzz FORMAT SEED` one input again.
`tests/fuzz` runs 500 of them with `pytest -m slow`, and all with `pytest -m long`.

On {machine} ({date}):

| format | inputs | read | refused | other |
|---|---|---|---|---|
"""
MACHINE, DATE = "2 cores of an AMD EPYC, Python 3.11.7", "2026-12-02"


def counts_of(name, inputs):
    """Outcome -> how many inputs had it; what is wrong goes to stderr."""
    counts = collections.Counter()
    with sample_of(name) as sample, tempfile.TemporaryDirectory() as folder:
        for seed in range(inputs):
            try:
                counts[run(name, seed, sample, Path(folder, str(seed)))] += 1
            except WrongError as error:
                counts["other"] += 1
                print(error, file=sys.stderr, flush=True)
    return counts


def main():
    if len(sys.argv) == 3:
        name, seed = sys.argv[1], int(sys.argv[2])
        folder = Path(tempfile.mkdtemp(), name)
        with sample_of(name) as sample:
            print(folder, flush=True)
            print(run(name, seed, sample, folder))
        return
    from tests.fuzz.outcomes import SECONDS

    total = INPUTS if len(sys.argv) == 1 else int(sys.argv[1])
    print(PAGE.format(seconds=SECONDS, machine=MACHINE, date=DATE), end="")
    sums = collections.Counter()
    for name, form in FORMATS.items():
        start = time.perf_counter()
        counts = counts_of(name, round(total * form.share))
        sums += counts
        print(row(form.title, counts), flush=True)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(row("all", sums))


def row(title, counts):
    cells = [counts.total(), counts[READ], counts[REFUSED], counts["other"]]
    return f"| {title} | {' | '.join(f'{x:,}' for x in cells)} |"


if __name__ == "__main__":
    main()
