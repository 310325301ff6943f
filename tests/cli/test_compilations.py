"""The folder of compiled programs: private, never a reason to fail, and used by commands alone."""

import logging
import os
import pathlib
import stat
import subprocess
import sys

import jax
import pytest

from jaxvision.cli.compilations import keep_compilations, private_folder, trim

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, with JAX's own settings as where nothing is said."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def kept_in():
    keep_compilations()
    return jax.config.jax_compilation_cache_dir


def test_the_folder_is_for_the_user_alone(cache):
    old = os.umask(0)
    try:
        folder = kept_in()
    finally:
        os.umask(old)
    assert folder == str(cache.resolve() / "jaxvision" / "xla")
    for part in (cache, cache / "jaxvision", cache / "jaxvision" / "xla"):
        assert stat.S_IMODE(part.stat().st_mode) == 0o700
    jax.config.update("jax_compilation_cache_dir", None)
    assert kept_in() == folder, "the next command has the same"


@pytest.mark.parametrize("given", [None, "", "relative"])
def test_without_a_cache_folder_it_is_the_one_in_the_home(cache, tmp_path, monkeypatch, given):
    if given is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept_in() == str(tmp_path.resolve() / ".cache" / "jaxvision" / "xla")


def test_jaxs_own_settings_go_before(cache, monkeypatch):
    for folder in ("", "/elsewhere"):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        assert kept_in() is None, "JAX reads it itself"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert kept_in() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    assert kept_in() == "/elsewhere"
    assert not cache.exists()


def written_by_others(cache):
    (cache / "jaxvision" / "xla").chmod(0o750)


def replaced_by_others(cache):
    cache.chmod(0o777)


def of_another_user(cache, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def a_link(cache):
    (cache / "jaxvision" / "xla").rmdir()
    (cache / "elsewhere").mkdir(0o700)
    (cache / "jaxvision" / "xla").symlink_to(cache / "elsewhere")


def a_file(cache):
    (cache / "jaxvision" / "xla").rmdir()
    (cache / "jaxvision" / "xla").write_text("")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (written_by_others, "others have access to {0}/jaxvision/xla: chmod go= {0}/jaxvision/xla"),
        (replaced_by_others, "others have access to {0}: chmod go-w {0}"),
        (of_another_user, "{0}/jaxvision/xla belongs to another user: use a folder of your own"),
        (a_link, "{0}/jaxvision/xla is no folder: remove it"),
        (a_file, "{0}/jaxvision/xla is no folder: remove it"),
    ],
)
def test_what_others_can_write_is_not_used_and_a_warning_says_why(
    cache, monkeypatch, caplog, change, reason
):
    private_folder()
    change(*(cache, monkeypatch)[: change.__code__.co_argcount])
    with caplog.at_level(logging.WARNING):
        assert kept_in() is None
    (record,) = caplog.records
    assert f"are not kept for the next command ({reason.format(cache.resolve())})" in record.message


@pytest.mark.parametrize("what", ["a file", "no right", "no home"])
def test_a_home_that_cannot_be_written_is_a_warning(cache, monkeypatch, caplog, what):
    if what == "a file":
        cache.write_text("")
    elif what == "no right":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")

        def home():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(pathlib.Path, "home", home)
    assert kept_in() is None
    (record,) = caplog.records
    assert "JAX_ENABLE_COMPILATION_CACHE=false ends this warning" in record.message


def test_the_oldest_programs_are_removed(cache):
    folder = private_folder()
    for age, name in enumerate("abcd"):
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (1000 - age, 1000 - age))
    trim(folder, 25)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    trim(folder, 25)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.slow
def test_a_command_keeps_what_takes_long_to_compile_and_the_library_keeps_nothing(cache):
    """In a process of its own, because JAX opens the folder once."""
    code = (
        "import sys, jax\n"
        "from jaxvision.cli.main import run\n"
        "assert jax.config.jax_compilation_cache_dir is None\n"
        "code = run('train', ['train', '--config.steps=1', f'--workdir={sys.argv[1]}'])\n"
        "assert code == 0\n"
    )
    environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def kept_after(name):
        call = [sys.executable, "-c", code, str(cache.parent / name)]
        subprocess.run(call, check=True, cwd=ROOT, env=environment)
        return sorted(path.name for path in (cache / "jaxvision" / "xla").iterdir())

    kept = kept_after("first")
    assert kept
    assert kept_after("second") == kept, "it compiles nothing"
