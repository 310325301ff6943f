"""Prints a JUnit report of pytest as rows of the table in docs/results.md."""

import datetime
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import jax


def commit():
    """The short name of the commit, with a + where files were changed since."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def machine():
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return f"{os.cpu_count()} cores {platform.machine()}, {devices}, JAX {jax.__version__}"


def rows(report):
    """A row for each test: name, result, minutes, commit, machine, date."""
    where = f"{commit()} | {machine()} | {datetime.date.today()}"
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        result = next((x for x in ("failure", "error", "skipped") if x in kinds), "passed")
        # What a test records with record_property, such as the figure it reached.
        figures = [f"{x.get('name')} {x.get('value')}" for x in case.iter("property")]
        name = f"{case.get('classname')}::{case.get('name')}".removeprefix("tests.")
        minutes = float(case.get("time")) / 60
        yield f"| `{name}` | {', '.join([result, *figures])} | {minutes:.1f} | {where} |"


def main(report):
    print("\nRows for docs/results.md:\n")
    print("\n".join(rows(report)))


if __name__ == "__main__":
    main(*sys.argv[1:])
