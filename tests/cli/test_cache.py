"""`jaxvision cache`: class folders are written once, and read as a data source."""

import json

import numpy as np

from jaxvision.cli.config import default_config
from jaxvision.cli.setup import open_data
from jaxvision.data import ImageCache, ImageFolder
from tests.cli.test_errors import error_of


def test_a_cache_is_written_and_read(command, colors, tmp_path):
    out = tmp_path / "cache"
    options = (f"--data={colors}", f"--out={out}")
    code, result, err = command("cache", *options, "--shorter_side=16", "--threads=1")
    assert code == 0, err
    found = json.loads(result)
    assert found["out"] == str(out)
    for split in ("train", "test"):
        source, cache = ImageFolder(colors / split), ImageCache(out / split)
        assert found["splits"][split]["images"] == len(source) == len(cache)
        assert f"{split}: {len(source)} images" in err
        assert cache.class_names == source.class_names
        np.testing.assert_array_equal(cache.labels, source.labels)
        assert cache.size(0) == (16, 16)
    assert error_of(command("cache", *options)) == (
        f"--out: {out / 'train'} exists: give another folder, or remove it"
    )
    config = default_config("classification")
    config.data.source, config.data.dir = "cache", str(out)
    splits = open_data(config)
    assert config.data.class_names == ("blue", "red")
    assert splits.open("test")[0]["image"].shape == (16, 16, 1)
    config.data.channels = 3
    assert open_data(config).open("train")[0]["image"].shape == (16, 16, 3)


def test_what_is_missing_is_named(command, tmp_path):
    assert error_of(command("cache")) == "no --data: give the folder of the images"
    assert error_of(command("cache", "--data=a")) == "no --out: give the folder of the cache"
    message = error_of(command("cache", f"--data={tmp_path}", f"--out={tmp_path / 'x'}"))
    assert message.startswith(f"there is no folder {tmp_path / 'train'}")
    assert not (tmp_path / "x").exists()
    code, out, _ = command("cache", "--help")
    assert code == 0
    assert "--jpeg_quality: store JPEGs of this quality" in out
