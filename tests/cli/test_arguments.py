"""Arguments: what arrives in the config, and one line for what cannot."""

import pytest
from absl import flags
from ml_collections import ConfigDict

from jaxvision.cli.arguments import (
    HelpAsked,
    common_flags,
    define_config,
    parse,
    take_config,
)
from jaxvision.cli.config import default_config, documented_keys, shipped_configs
from jaxvision.cli.kinds import KINDS
from jaxvision.core import InputError


def parsed(*arguments):
    name, rest = take_config(["train", *arguments], "digits_lenet5")
    values = common_flags()
    define_config(values, name, rest)
    parse(values, rest, "How to use it, --config=x for example.")
    return values


def error_of(*arguments):
    with pytest.raises(InputError) as error:
        parsed(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "digits_lenet5"),
        (["--config=digits_resnet20"], "digits_resnet20"),
        (["--config", "digits_resnet20"], "digits_resnet20"),
        (["-config=digits_resnet20"], "digits_resnet20"),
        (["--config=a=b"], "a=b"),
        (["--config="], ""),
        (["--config=tfds_mnist", "--config=digits_resnet20"], "digits_resnet20"),
    ],
)
def test_the_config_is_taken_out_of_the_arguments(arguments, name):
    others = ["--config.steps=3", "--workdir=x"]
    expected = name, ["train", *others]
    assert take_config(["train", *arguments, *others], "digits_lenet5") == expected
    assert take_config(["train", *others, *arguments], "digits_lenet5") == expected


def test_a_config_without_its_name_is_nameless():
    assert take_config(["train", "--config"], "digits_lenet5") == ("", ["train"])


@pytest.mark.parametrize("arguments", [["--config=digits_resnet20"], ["--config", "tfds_cifar10"]])
def test_the_chosen_config_is_loaded(arguments):
    assert parsed(*arguments).config.model.name == "resnet20"


def test_the_default_is_loaded_without_a_choice():
    values = parsed()
    assert values.config.model.name == "lenet5"
    assert values.workdir is None


@pytest.mark.parametrize(
    ("argument", "get", "expected"),
    [
        ("--config.steps=7", lambda c: c.steps, 7),
        ("--config.optimizer.learning_rate=0.5", lambda c: c.optimizer.learning_rate, 0.5),
        ("--config.optimizer.learning_rate=1", lambda c: c.optimizer.learning_rate, 1.0),
        ("--config.model.name=resnet20", lambda c: c.model.name, "resnet20"),
        ("--config.data.dir=/a=b", lambda c: c.data.dir, "/a=b"),
        ("--config.data.mean=(0.1,0.2,0.3)", lambda c: c.data.mean, (0.1, 0.2, 0.3)),
        ("--config.data.cache=false", lambda c: c.data.cache, False),
        ("--noconfig.data.cache", lambda c: c.data.cache, False),
        ("--config.augment.flip", lambda c: c.augment.flip, True),
        ("-config.steps=7", lambda c: c.steps, 7),
    ],
)
def test_overrides_arrive_with_their_type(argument, get, expected):
    value = get(parsed(argument).config)
    assert value == expected
    assert type(value) is type(expected)


def test_an_override_may_be_two_arguments():
    values = parsed("--config.steps", "7", "--workdir", "somewhere")
    assert (values.config.steps, values.workdir) == (7, "somewhere")


def test_a_group_may_be_given_as_a_literal():
    model = parsed("--config.model={'name': 'resnet20', 'blocks': 1}").config.model
    assert model.to_dict() == {"name": "resnet20", "blocks": 1}


@pytest.mark.parametrize(
    ("config", "argument", "group", "expected"),
    [
        ("digits_resnet20", "--config.model.widths=(8,16)", "model", {"widths": (8, 16)}),
        ("digits_resnet20", "--config.model.blocks=1", "model", {"blocks": 1}),
        ("digits_resnet20", "--config.model.norm=batch_norm", "model", {"norm": "batch_norm"}),
        ("digits_resnet20", "--config.model.dtype=bfloat16", "model", {"dtype": "bfloat16"}),
        ("scenes_unet", "--config.loss.class_weights=(1,2)", "loss", {"class_weights": (1, 2)}),
        ("photos_dncnn", "--config.model.depth=3", "model", {"depth": 3}),
        ("scenes_yolov1_tiny", "--config.loss.lambda_coord=4", "loss", {"lambda_coord": 4.0}),
        ("scenes_yolov1_tiny", "--config.detect.max_detections=7", "detect", {"max_detections": 7}),
        ("scenes_yolov1_tiny", "--config.detector.best_box_only", "detector", {"best_box_only": 1}),
    ],
)
def test_every_field_of_what_a_group_names_is_a_flag(config, argument, group, expected):
    before = parsed(f"--config={config}").config[group].to_dict()
    after = parsed(f"--config={config}", argument).config[group].to_dict()
    assert after == {**before, **expected}


def test_help_lists_the_fields_with_their_defaults():
    with pytest.raises(HelpAsked) as asked:
        parsed("--help", "--config.model.name=resnet20")
    lines = str(asked.value).splitlines()
    (blocks,) = (line for line in lines if "--config.model.blocks=" in line)
    assert blocks == (
        "      --config.model.blocks=3  (n, the number of blocks of a stage; 3 gives ResNet-20.)"
    )
    assert "      --config.model.norm=batch_norm" in lines


def test_the_fields_are_those_of_the_network_that_a_flag_names():
    model = ["--config.model.name=resnet20", "--config.model.blocks=1"]
    assert parsed(*model).config.model.to_dict() == {"name": "resnet20", "blocks": 1}
    literal = ["--config.model={'name': 'resnet20'}", "--config.model.width=1"]
    assert error_of(*literal) == (
        "unknown config key 'model.width' (at 'width'): did you mean 'widths'?"
    )


def test_overrides_leave_the_next_run_alone():
    parsed("--config.steps=7")
    assert parsed().config.steps == 1200


def test_the_config_is_locked():
    config = parsed("--config.steps=7").config
    with pytest.raises(AttributeError, match="not_a_key"):
        config.not_a_key = 1
    with pytest.raises(AttributeError, match="not_a_key"):
        config.optimizer.not_a_key = 1


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.stepz=7", "unknown config key 'stepz' (at 'stepz'): did you mean 'steps'"),
        (
            "--config.optimizer.learning_rat=1",
            "unknown config key 'optimizer.learning_rat' (at 'learning_rat'): "
            "did you mean 'learning_rate'?",
        ),
        ("--config.optimiser.name=sgd", "(at 'optimiser'): did you mean 'optimizer'?"),
        (
            "--config.optimizer.schedule.warm_up=0",
            "'optimizer.schedule.warm_up' (at 'warm_up'): did you mean 'warmup'?",
        ),
        ("--noconfig.augment.flop", "(at 'flop'): did you mean 'flip'?"),
        ("--config.model.width=3", "(at 'width'): known: dtype, name, norm, "),
        ("--config.steps.more=3", "(at 'more'): it has no keys of its own"),
        ("--config.data.mean[0]=3", "(at 'mean[0]'): did you mean 'mean'?"),
        ("--config.=3", "unknown config key ''"),
        ("--config.data.=3", "unknown config key 'data.' (at ''): known: cache,"),
    ],
)
def test_an_unknown_key_names_the_close_one(argument, expected):
    assert expected in error_of(argument)


@pytest.mark.parametrize("argument", ["--config.model=lenet5", "--config.model"])
def test_a_group_is_no_key(argument):
    expected = "config key 'model' is a group: set its keys, such as model.name"
    assert error_of(argument) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "--config.batch_size=1e3",
        "--config.batch_size=",
        "--config.steps=2.5",
        "--config.optimizer.learning_rate=fast",
        "--config.data.cache=maybe",
    ],
)
def test_a_bad_value_names_the_flag(argument):
    assert error_of(argument).startswith(f"flag {argument}: ")


def test_an_unknown_flag_names_the_close_one():
    message = error_of("--workdri=x")
    assert message.startswith("Unknown command line flag 'workdri'. Did you mean: workdir")
    assert message.endswith("(--help lists the flags)")
    assert "'batch_size' (--help" in error_of("--batch_size=4")


@pytest.mark.parametrize("stray", ["digits_lenet5", "-", "workdir=x"])
def test_a_stray_argument_is_refused(stray):
    expected = f"unexpected argument {stray!r}: flags look like --name=value"
    assert error_of(stray) == expected


@pytest.mark.parametrize("argument", ["--help", "-h", "-help"])
def test_help_has_the_usage_the_flags_and_the_configs(argument):
    with pytest.raises(HelpAsked) as asked:
        parsed("--config.steps=3", argument)
    text = str(asked.value)
    assert text.startswith("How to use it, --config=x for example.\n\nFlags:\n")
    assert "\n  --workdir: folder of the run; train's default is runs/NAME\n" in text
    assert "\n      --config.optimizer.learning_rate=0.003  (the highest.)\n" in text
    for name in shipped_configs():
        assert f"\n      {name}: " in text


def test_help_has_the_defaults_that_say_something():
    values = common_flags()
    flags.DEFINE_integer("count", 0, "number", flag_values=values)
    flags.DEFINE_float("share", 0.5, "part", flag_values=values)
    flags.DEFINE_string("name", "it's", "word", flag_values=values)
    flags.DEFINE_enum("form", "a", ["a", "b"], "kind", flag_values=values)
    flags.DEFINE_list("splits", ["train", "test"], "parts", flag_values=values)
    flags.DEFINE_boolean("shuffle", True, "mix", flag_values=values)
    flags.DEFINE_string("prefix", "", "none", flag_values=values)
    flags.DEFINE_list("maps", [], "all", flag_values=values)
    define_config(values, "digits_lenet5", ["x"])
    with pytest.raises(HelpAsked) as asked:
        parse(values, ["x", "--count=3", "--help"], "")
    lines = str(asked.value).splitlines()
    for line in (
        "--count: number (default: 0)",
        "--share: part (default: 0.5)",
        "--name: word (default: it's)",
        "--form: <a|b>: kind (default: a)",
        "--splits: parts (default: train,test)",
        "--shuffle: mix (default: true)",
        "--prefix: none",
        "--maps: all",
        "--num_processes: with it: how many",
    ):
        assert f"  {line}" in lines
    assert sum("(default: " in line for line in lines) == 7  # not of --config, nor --distributed


def test_one_broken_config_does_not_break_the_others(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def get_config(:")
    (tmp_path / "good.py").write_text(
        '"""Good."""\nfrom jaxvision.cli.config import default_config as get_config\n'
    )
    monkeypatch.setattr("jaxvision.cli.config.configs_folder", lambda: tmp_path)
    assert parsed("--config=good").config.steps == 1000
    assert error_of("--config=broken").startswith(f"config {tmp_path}/broken.py, line 1: Syntax")


@pytest.mark.parametrize("task", KINDS)
def test_every_key_of_every_config_is_documented(task):
    documented, config = documented_keys(task), default_config(task)
    keys = {key for key in keys_in(config) if key != "task"}
    assert keys <= documented.keys()
    assert documented.keys() - keys <= {"anchors"}
    assert [key for key, comment in documented.items() if len(comment) < 5] == []


def keys_in(group, prefix=""):
    for key, value in group.items():
        if isinstance(value, ConfigDict):
            yield from keys_in(value, f"{prefix}{key}.")
        else:
            yield prefix + key
