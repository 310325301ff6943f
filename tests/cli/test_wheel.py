"""An installed wheel brings the configs and the command."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from jaxvision.cli.config import shipped_configs

# They start processes of their own: one after the other.
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("jaxvision-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the console script of an install away from the checkout."""
    target = tmp_path_factory.mktemp("target")
    pip("install", "--no-deps", "--target", target, wheel)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def call(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=target, env=environment, capture_output=True, text=True
        )

    where = call("-c", "import jaxvision; print(jaxvision.__file__)").stdout.strip()
    assert where == str(target / "jaxvision" / "__init__.py")
    return lambda *arguments: call(str(target / "bin" / "jaxvision"), *arguments)


def test_the_wheel_holds_the_package_and_every_config_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxvision").rglob("*.py")}
    expected |= {f"jaxvision/configs/{name}.py" for name in shipped_configs()}
    expected.add("jaxvision/interop/pretrained_weights.json")
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.long
def test_help_lists_the_configs(installed):
    run = installed("train", "--help")
    assert run.returncode == 0, run.stderr
    for name in shipped_configs():
        assert f" {name}: " in run.stdout


def test_a_shipped_config_is_found_by_its_name(installed):
    run = installed("train", "--config=digits_lenet5", "--config.stepz=1")
    assert run.returncode == 2
    assert run.stderr.startswith("error: unknown config key 'stepz'")
    assert run.stdout == ""
