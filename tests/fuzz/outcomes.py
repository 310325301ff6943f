"""Judges what a reader did with a damaged input."""

import contextlib
import resource
import shutil
import signal
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxvision.core import InputError
from jaxvision.engine import DamagedError
from tests.fuzz.damages import damage
from tests.fuzz.formats import FORMATS

READ, REFUSED = "read", "refused"
SECONDS = 5.0
GROWTH = 300e6
"""Bytes of memory by which a reader of these small files may raise the peak of the process."""
LINES, CHARACTERS = 10, 7000


class WrongError(AssertionError):
    """A reader did what it must not do."""


class TooSlow(BaseException):
    """A reader took too long; no `except Exception` holds it."""


@contextlib.contextmanager
def limited(seconds=SECONDS):
    """Raises TooSlow where the time is over, also within a call that waits."""

    def stop(signum, frame):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rng_of(name, seed):
    return np.random.default_rng((sorted(FORMATS).index(name), seed))


@contextlib.contextmanager
def sample_of(name):
    """A folder with a sound sample of a format."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    try:
        FORMATS[name].write(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def run(name, seed, sample, folder):
    """Damages a copy of a sample and reads it.

    Returns:
      `READ` or `REFUSED`.
    Raises:
      WrongError: anything else.
    """
    shutil.copytree(sample, folder, symlinks=True)
    damage(folder, rng_of(name, seed))
    before = peak()
    try:
        return judge(FORMATS[name], folder)
    except WrongError as error:
        again = f"python -m tests.fuzz {name} {seed}"
        raise WrongError(f"{name}, seed {seed}: {error}\nagain by: {again}") from error
    finally:
        if peak() - before > GROWTH:
            raise WrongError(
                f"{name}, seed {seed}: the memory grew by {(peak() - before) / 1e6:.0f} MB"
            )


def judge(form, folder):
    """What a reader does with a folder, which is compared with what an independent one does."""
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = form.read(folder)
    except (InputError, DamagedError) as error:
        lines = str(error).splitlines()
        if len(lines) > LINES or len(str(error)) > CHARACTERS or not lines:
            raise WrongError(f"{len(lines)} lines of {len(str(error))} characters") from error
        return REFUSED
    except TooSlow as error:
        raise WrongError(f"it took more than {SECONDS} s") from error
    except Exception as error:
        raise WrongError(f"{type(error).__name__}: {str(error)[:300]}") from error
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = form.truth(folder)
    except Exception as error:
        raise WrongError(
            f"it was read, and an independent reader fails: {type(error).__name__}: "
            f"{str(error)[:300]}"
        ) from error
    difference = differ(found, expected, form.tolerance)
    if difference:
        raise WrongError(f"it was read wrong: {difference}")
    return READ


def differ(found, expected, tolerance=0.0, path="it"):
    """Where two values differ, which are arrays, or lists and mappings of them; None: nowhere."""
    if isinstance(expected, Mapping):
        if set(found) != set(expected):
            return f"{path} has {sorted(found)[:5]} instead of {sorted(expected)[:5]}"
        pairs = {key: (found[key], expected[key]) for key in expected}
    elif isinstance(expected, list | tuple):
        if len(found) != len(expected):
            return f"{path} has {len(found)} parts instead of {len(expected)}"
        pairs = dict(enumerate(zip(found, expected, strict=True)))
    else:
        one, two = np.asarray(found), np.asarray(expected)
        try:
            np.testing.assert_array_equal(one.shape, two.shape)
            if one.dtype.kind in "iufb" and one.size:
                np.testing.assert_allclose(
                    one.astype("f8"), two.astype("f8"), rtol=0, atol=tolerance
                )
            else:
                np.testing.assert_array_equal(one, two)
        except (AssertionError, ValueError, TypeError):
            return f"{path} is {str(found)[:100]} instead of {str(expected)[:100]}"
        return None
    for key, (one, two) in pairs.items():
        found_here = differ(one, two, tolerance, f"{path}[{key!r}]")
        if found_here:
            return found_here
    return None
