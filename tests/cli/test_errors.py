"""Bad input: exit code 2, nothing on stdout, and one line that names the thing and the fix."""

import errno
import gzip
import json
import os
import sys

import numpy as np
import pytest

from jaxvision.cli import main as cli
from jaxvision.cli.config import default_config, shipped_configs
from jaxvision.core.files import replacing
from tests.data.test_idx import idx_bytes
from tests.descriptions import run_description


def error_of(result):
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.endswith("\n")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def train(command, digits, tmp_path):
    """The error of two steps on the digits, with some arguments changed."""

    def call(*arguments):
        usual = ["--config.steps=2", f"--config.data.dir={digits}", f"--workdir={tmp_path / 'run'}"]
        return error_of(command("train", *usual, *arguments))

    return call


SETTINGS = [
    ("--config=digits_lenet", "no config 'digits_lenet': did you mean 'digits_lenet5'"),
    ("--config=", "no config '': known: bccd_retinanet, "),
    ("--config.stepz=3", "unknown config key 'stepz' (at 'stepz'): did you mean 'steps'"),
    ("--config.optimizer.lr=3", "unknown config key 'optimizer.lr' (at 'lr'): known: b1, b2, "),
    ("--config.model=lenet5", "config key 'model' is a group: set its keys, such as model.name"),
    ("--config.model={}", "config.model has no 'name': give it too, as config.model.name"),
    ("--config.model.width=3", "unknown config key 'model.width' (at 'width'): known: d"),
    ("--config.model.name=yolov2", "model.name is 'yolov2', which is no network for classificat"),
    ("--config.model.name=lenet", "unknown model 'lenet': did you mean 'lenet5'"),
    ("--config.model={'name': 'resnet20', 'block': 1}", "no field 'block': did you mean 'blocks'?"),
    ("--config.task=classify", "unknown task 'classify': did you mean 'classification'?"),
    ("--config.parallel=pjit", "config.parallel is 'pjit': choose one of pmap, shard_map"),
    ("--config.batch_size=63", "batch size 63 is not divisible by the 4 devices: use 60 or 64"),
    ("--config.batch_size=2", "batch size 2 is not divisible by the 4 devices: use 4"),
    (
        "--config.accumulate=3",
        "batch size 64 is not divisible by the 12 parts of 4 devices, accumu",
    ),
    ("--config.accumulate=0", "config.accumulate is 0: give at least 1"),
    ("--config.shard_state=True", "config.shard_state is True and parallel is 'pmap': use 'shard_"),
    ("--config.batch_size=0", "config.batch_size is 0: give at least 1"),
    ("--config.batch_size=1e3", "flag --config.batch_size=1e3: invalid literal"),
    ("--config.batch_size=100000000", "config.batch_size is 100000000: the examples of a batch"),
    ("--config.steps=0", "config.steps is 0: give at least 1"),
    ("--config.steps=-1", "config.steps is -1: give at least 1"),
    ("--config.eval_every=0", "config.eval_every is 0: give at least 1"),
    ("--config.checkpoint_every=-1", "config.checkpoint_every is -1: give at least 0"),
    ("--config.keep=0", "config.keep is 0: give at least 2"),
    ("--config.log_every=0", "config.log_every is 0: give at least 1"),
    ("--config.prefetch=0", "config.prefetch is 0: give at least 1"),
    ("--profile=3", "--profile is '3': give START:STOP, as 10:12"),
    ("--profile=1:3", "--profile is (1, 3): give steps of 1 to 2, the first one not after the l"),
    ("--config.seed=-1", "config.seed is -1: give at least 0 and at most 4294967295"),
    ("--config.best.mode=most", "config.best.mode is 'most': choose max or min"),
    (
        "--config.loss.label_smoothing=1",
        "config.loss.label_smoothing is 1.0: give at least 0 and less than 1",
    ),
    ("--config.optimizer.name=sgdm", "unknown optimizer 'sgdm': did you mean 'sgd'"),
    ("--config.optimizer.learning_rate=0", "learning_rate is 0.0: give more than 0"),
    ("--config.optimizer.learning_rate=nan", "learning_rate is nan: give more than 0"),
    ("--config.optimizer.schedule.name=cosin", "unknown schedule 'cosin': did you mean 'cosine'?"),
    (
        "--config.optimizer.schedule.warmup=1",
        "schedule.warmup is 1.0: give at least 0 and less than 1",
    ),
    ("--config.data.source=table", "unknown data source 'table': known: cache, digits, folder"),
    ("--config.data.source=tfds", "config.data.name is not set: give a TFDS data set"),
    ("--config.data.dir=/nowhere", "dir is /nowhere, which is not there: the source digits is"),
    ("--config.data.test_split=val", "config.data.test_split is set, but the source digits does"),
    ("--config.data.dir=/dev/null", "cannot prepare jaxvision_digits in /dev/null/jaxvision_digit"),
    (
        "--config.data.validation_fraction=1",
        "config.data.validation_fraction is 1.0: give at least 0 and",
    ),
    (
        "--config.data.validation_fraction=0.0001",
        "split 'validation' has no records: raise config.data.validation_fraction",
    ),
    (
        "--config.data.validation_fraction=0.9999",
        "split 'train' has no records: lower config.data.validation_fraction",
    ),
    ("--config.data.image_size=0", "config.data.image_size is 0: give at least 1"),
    (
        "--config.data.image_size=99999999",
        "config.data.image_size is (99999999, 99999999): an image of it takes 39,999,999 GB",
    ),
    ("--config.data.image_size=28", "lenet5 takes 32x32 images, got 28x28: resize them"),
    ("--config.data.resize=cubic", "config.data.resize is 'cubic': known: crop, fit, letterbox,"),
    ("--config.data.method=cubic", "config.data.method is 'cubic': did you mean 'bicubic'?"),
    (
        "--config.data.shorter_side=40",
        "config.data.shorter_side is set, but stretch does not use it: leave it out",
    ),
    ("--config.data.channels=3", "config.data.mean has 1 numbers for 3 channels: give one for"),
    ("--config.data.mean=(0.1,0.2)", "config.data.mean has 2 numbers for 1 channels: give one"),
    ("--config.data.num_classes=0", "config.data.num_classes is 0: give at least 1"),
    (
        "--config.data.num_classes=5",
        "config.data.num_classes is 5, but there are 10 classes (0, 1, 2, 3, 4, 5, 6, 7 and 2 more)"
        ": set config.data.num_classes=10, or leave it out",
    ),
    ("--config.loss.name=focal", "unknown loss 'focal': known: cross_entropy, softmax_focal_loss"),
    (
        "--config.loss={'name': 'cross_entropy', 'smooth': 1}",
        "config.loss.smooth is no option of cross_entropy: did you mean 'label_smoothing'",
    ),
    ("--config.loss.name=gone.py:f", "loss 'gone.py:f': there is no file "),
    ("--config.loss.name=nowhere.to:f", "loss 'nowhere.to:f': No module named 'nowhere'"),
    ("--config.data.threads=-1", "config.data.threads is -1: give at least 0"),
    ("--config.data.workers=-1", "config.data.workers is -1: give at least 0"),
    ("--num_processes=2", "several processes by hand need all of --coordinator_address=HOST:PORT"),
    ("--workdri=x", "Unknown command line flag 'workdri'. Did you mean: workdir"),
    ("digits_resnet20", "unexpected argument 'digits_resnet20': flags look like --name=value"),
]


@pytest.mark.parametrize(("argument", "expected"), SETTINGS)
def test_a_bad_setting_is_one_line_before_anything_is_written(train, tmp_path, argument, expected):
    assert expected in train(argument)
    assert list(tmp_path.iterdir()) == []


FIGURES = [
    ("--config.batch_size=-4", "config.batch_size is -4"),
    ("--config.best.patience=-1", "config.best.patience is -1"),
    ("--config.data.mean=a", "config.data.mean"),
    ("--config.data.std=(0.0,)", "config.data.std"),
    ("--config.augment.padding=-1", "config.augment.padding is -1"),
    ("--config.optimizer.clip_norm=-1", "config.optimizer.clip_norm is -1"),
]


@pytest.mark.parametrize(("argument", "expected"), FIGURES)
def test_a_bad_figure_is_named(train, argument, expected):
    assert expected in train(argument)


@pytest.mark.parametrize(("schedule", "factor"), [("step", -1), ("plateau", 2), ("plateau", 0)])
def test_a_bad_factor_is_named(train, schedule, factor):
    setting = "--config.optimizer.schedule"
    assert "factor" in train(f"{setting}.name={schedule}", f"{setting}.factor={factor}")


@pytest.mark.slow
def test_what_shows_in_the_data_comes_before_training(train, tmp_path):
    figures = [f"--config.data.{key}=(1.,1.,1.)" for key in ("mean", "std")]
    message = train("--config.data.channels=3", *figures)
    assert "the image has 1 channels instead of 3: set channels=1" in message
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_folder_of_a_run_that_failed_before_training_is_taken_over(trained):
    run = trained("colors")
    expected = "config.best.metric is 'acuracy', which is not measured: did you mean 'accuracy'?"
    assert run.refused == f"error: {expected}\n"
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_an_unknown_model_in_a_config_of_ones_own(train, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxvision.cli.config import default_config\n\n\ndef get_config():\n"
        "    config = default_config()\n    config.model.name = 'resnet_20'\n    return config\n"
    )
    message = train(f"--config={path}")
    assert message.startswith("unknown model 'resnet_20': did you mean 'resnet20'")


def test_a_config_that_fails(train, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return confg\n")
    message = train("--config=mine.py")
    assert message.startswith(f"config {tmp_path / 'mine.py'}, line 2: NameError: name 'confg'")


@pytest.mark.parametrize("below", ["", "run"])
def test_a_workdir_that_is_a_file(train, tmp_path, below):
    (tmp_path / "file").write_text("precious")
    message = train(f"--workdir={tmp_path / 'file' / below}")
    assert message.startswith(f"cannot write the run to {tmp_path / 'file' / below} (")
    assert message.endswith("use another workdir")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.long
def test_a_tilde_is_the_home_folder(command, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    usual = ["--config.steps=1", f"--config.data.dir={digits}"]
    code, trained, err = command("train", *usual, "--workdir=~/run")
    assert code == 0, err
    assert (tmp_path / "home" / "run" / "run.json").is_file()
    code, evaluated, err = command("eval", "--workdir=~/run")
    assert code == 0, err
    assert json.loads(evaluated)["accuracy"] == json.loads(trained)["accuracy"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def idx_file(path, array):
    path.write_bytes(gzip.compress(idx_bytes(array)))


@pytest.fixture
def idx(tmp_path):
    """A folder of forty images in MNIST's format."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part in ("train", "t10k"):
        idx_file(folder / f"{part}-images-idx3-ubyte.gz", np.zeros((40, 28, 28), np.uint8))
        idx_file(folder / f"{part}-labels-idx1-ubyte.gz", np.zeros(40, np.uint8))
    return folder


def test_no_folder_of_idx_files(command, tmp_path):
    message = error_of(command("train", "--config=fashion_mnist_resnet20"))
    assert message == "config.data.dir is not set: give the folder of the data"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder(train, tmp_path):
    message = train("--config=fashion_mnist_resnet20", "--config.data.dir=/nowhere/at/all")
    assert message.startswith("config.data.dir is /nowhere/at/all, which is not there: give the")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_idx_file(train, idx, tmp_path):
    path = idx / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    message = train("--config=fashion_mnist_resnet20", f"--config.data.dir={idx}")
    assert message.startswith(f"{path} is cut short or damaged (")
    assert message.endswith("fetch it again")
    assert not (tmp_path / "run").exists()


def test_a_label_out_of_range(train, idx):
    idx_file(idx / "train-labels-idx1-ubyte.gz", np.full(40, 10, np.uint8))
    usual = ["--config=fashion_mnist_resnet20", f"--config.data.dir={idx}"]
    message = train(*usual, "--config.data.num_classes=10")
    assert message.startswith(f"{idx}/train-images-idx3-ubyte.gz, record ")
    assert ": label 10 is out of range 0..9: correct the record or set num_classe" in message


def test_a_wrong_image_size(train, idx):
    idx_file(idx / "train-images-idx3-ubyte.gz", np.zeros((40, 28, 27), np.uint8))
    message = train("--config=fashion_mnist_resnet20", f"--config.data.dir={idx}")
    assert message.startswith(f"{idx}/train-images-idx3-ubyte.gz, record ")
    assert ": the image has 27 x 28 pixels instead of 28 x 28: make the size (28, 27)" in message
    assert "or set resize to one of stretch, letterbox, crop, shorter_side, fit" in message


def test_a_tfds_data_set_that_is_not_prepared(train, tmp_path):
    message = train("--config=tfds_mnist", f"--config.data.dir={tmp_path}")
    assert f"tfds build mnist --file_format=array_record --data_dir={tmp_path}`" in message
    assert list(tmp_path.iterdir()) == []


def test_eval_without_a_workdir(command):
    message = "give either --workdir=DIR, or --model=NAME or --config=NAME with --weights=FILE, "
    message += "or --weights=MODEL:NAME"
    assert error_of(command("eval")) == message


@pytest.mark.parametrize("workdir", ["absent", "empty", "file"])
def test_eval_of_a_folder_without_a_run(command, tmp_path, workdir):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    message = error_of(command("eval", f"--workdir={tmp_path / workdir}"))
    assert message.startswith(f"no run in {tmp_path / workdir}: ")


def test_eval_of_a_damaged_config(command, tmp_path):
    (tmp_path / "run.json").write_text('{"steps": ')
    message = error_of(command("eval", f"--workdir={tmp_path}"))
    assert message.startswith(f"{tmp_path / 'run.json'} is damaged (")


@pytest.mark.parametrize("folder", [True, False])
def test_eval_of_a_run_without_checkpoints(command, tmp_path, folder):
    run = run_description(config=default_config().to_dict())
    run["config"]["data"]["class_names"] = [str(number) for number in range(10)]
    (tmp_path / "run.json").write_text(json.dumps(run))
    if folder:
        (tmp_path / "checkpoints").mkdir()
    before = sorted(tmp_path.rglob("*"))
    message = error_of(command("eval", f"--workdir={tmp_path}"))
    assert message == f"no checkpoint in {tmp_path / 'checkpoints'}: train first"
    assert sorted(tmp_path.rglob("*")) == before


def test_eval_of_an_unknown_split(command, trained):
    run = trained("colors")
    message = error_of(command("eval", f"--workdir={run.folder}", "--split=tset"))
    assert message.startswith(f"there is no folder {run.data / 'tset'}")


def test_eval_takes_no_config(command, trained):
    workdir = f"--workdir={trained('colors').folder}"
    message = error_of(command("eval", workdir, "--config.batch_size=8"))
    assert message.startswith("Unknown command line flag 'config.batch_size'")


def test_another_config_on_an_old_workdir_shows_the_difference(command, trained):
    run = trained("colors")
    train = ["train", *run.arguments, f"--workdir={run.folder}", "--config.batch_size=8"]
    message = error_of(command(*train))
    assert f"{run.folder} has another run (" in message
    assert "batch_size: 4 -> 8" in message
    assert message.endswith("use the same options or another workdir")


def test_an_unknown_command(command):
    message = error_of(command("trian"))
    assert message == "unknown command 'trian': did you mean 'train'?"


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0), (["help"], 0)]
)
def test_the_console_script_without_a_command_says_what_there_is(
    arguments, code, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["jaxvision", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"jaxvision {name} " in out


@pytest.mark.parametrize("advice", ["", "; the same command resumes from the last checkpoint"])
def test_a_full_disk_is_one_line(advice, monkeypatch, command, tmp_path):
    def write(argv):
        with replacing(tmp_path / "file") as file:
            file.write("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(cli.COMMANDS, "train" if advice else "models", write)
    code, out, err = command("train" if advice else "models")
    assert (code, out) == (1, "")
    reason = "(No space left on device): make room, or use another folder"
    assert err == f"error: cannot write {tmp_path / 'file'} {reason}{advice}\n"
    assert list(tmp_path.iterdir()) == []


def test_output_that_nobody_reads_is_no_error(monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert cli.run("models", ["models", "--json", "lenet5"]) == 141
    assert capfd.readouterr() == ("", "")


def test_another_broken_pipe_is_an_error(monkeypatch, command):
    def download(argv):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setitem(cli.COMMANDS, "models", download)
    assert command("models") == (1, "", "error: [Errno 32] Broken pipe\n")


@pytest.mark.parametrize(("arguments", "code"), [(["eval"], 2), (["evil"], 2), (["eval", "-h"], 0)])
def test_the_console_script_ends_with_the_code_of_its_command(arguments, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxvision", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    assert capsys.readouterr().err.startswith("error: " if code else "")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_has_an_example_and_its_flags(command, name):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    if name in ("train", "eval"):
        assert f"python {name}.py" in out
        assert "\n  --workdir: " in out
    else:
        assert f"\n  jaxvision {name} " in out
        flag = {"models": "json", "convert": "weights", "plan": "target"}.get(name, "out")
        assert f"\n  --{flag}: " in out
    if name == "train":
        assert all(f" {config}: " in out for config in shipped_configs())
