"""Descriptions: what they say, their sizes and counts, and what is wrong with them."""

import re

import pytest

from jaxvision.core import InputError
from jaxvision.interop import parse_cfg, read_cfg
from tests.interop.darknet.cfgs import (
    FORK,
    FORK_SIZES,
    MAPS,
    MAPS_SIZES,
    VECTORS,
    VECTORS_SIZES,
)

NET = "[net]\nheight=8\nwidth=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=14\n"
YOLO = "[yolo]\nclasses=2\nnum=2\nanchors=1,2,3,4\n"


@pytest.mark.parametrize(
    ("text", "sizes"), [(MAPS, MAPS_SIZES), (VECTORS, VECTORS_SIZES), (FORK, FORK_SIZES)]
)
def test_sizes_follow_the_formats_arithmetic(text, sizes):
    assert list(parse_cfg(text).sizes()) == sizes


def test_sizes_of_other_images():
    description = parse_cfg(NET + "[conv]\nfilters=4\nsize=3\nstride=2\n[max]\nsize=2\nstride=2\n")
    # (8 - 3) / 2 + 1 = 3 and (3 + 1 - 2) / 2 + 1 = 2; (5 - 3) / 2 + 1 = 2 and (2 - 1) / 2 + 1 = 1
    assert description.sizes() == ((3, 3, 4), (2, 2, 4))
    assert description.sizes(5, 8) == ((2, 3, 4), (1, 2, 4))
    with pytest.raises(InputError, match=r"line 5: \[convolutional\] the window of 3 is larger"):
        description.sizes(2, 8)


def test_parameters_and_statistics_are_counted_apart():
    description = parse_cfg(
        NET
        + "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\n"  # 108 + 4 + 4, 8
        + "[convolutional]\nfilters=2\n"  # 8 + 2
        + "[local]\nfilters=5\nsize=2\nstride=2\n"  # 16 places of 5 x 8, and 80
        + "[connected]\noutput=3\nbatch_normalize=1\n"  # 240 + 3 + 3, 6
    )
    assert description.num_parameters == 116 + 10 + 720 + 246
    assert description.num_statistics == 8 + 6


def test_the_text_may_be_written_in_many_ways():
    plain = parse_cfg(MAPS)
    pairs = {"convolutional": "conv", "maxpool": "max", "avgpool": "avg", "softmax": "soft"}
    other = MAPS.replace("=", "  =\t").replace("\n", " # comment\r\n").replace("[net]", "[network]")
    for name, alias in pairs.items():
        other = other.replace(f"[{name}]", f"  [{alias}]  ; comment")
    other = parse_cfg(f"# {other}")
    fields = [
        {name: value for name, value in vars(layer).items() if name != "section"}
        for description in (plain, other)
        for layer in description.layers
    ]
    assert fields[: len(plain.layers)] == fields[len(plain.layers) :]


def test_the_first_of_two_equal_options_counts():
    (size,) = parse_cfg(NET + "[conv]\nfilters=4\nfilters=5\n").sizes()
    assert size.channels == 4


def test_descriptions_are_values():
    assert parse_cfg(MAPS) == parse_cfg(MAPS)
    assert hash(parse_cfg(MAPS)) == hash(parse_cfg(MAPS))
    assert parse_cfg(MAPS) != parse_cfg(MAPS.replace("size=4", "size=3"))


def test_heads_have_strides_and_anchors_in_pixels():
    yolo, region = parse_cfg(MAPS).heads()
    assert (yolo.kind, yolo.maps, yolo.num_classes) == ("yolo", ("yolo12",), 2)
    assert (yolo.grid_size, yolo.stride, yolo.softmax) == ((3, 4), 4, False)
    assert yolo.anchors == ((2, 3), (6, 7))
    # A [region] measures its anchors in cells.
    assert (region.kind, region.maps, region.anchors) == ("region", ("region18",), ((2, 6),))
    assert parse_cfg(MAPS).heads(24, 24)[1].grid_size == (6, 6)
    half = parse_cfg(NET + "[max]\nsize=2\nstride=2\n" + CONV + YOLO)
    with pytest.raises(
        InputError, match=r"line 10: \[yolo\] images of 7 x 8 x 3 give cells of 1.75"
    ):
        half.heads(7, 8)

    (detection,) = parse_cfg(VECTORS).heads()
    assert detection.maps == ("coordinates", "confidence", "class_scores")
    assert (detection.grid_size, detection.num_classes) == ((2, 2), 1)
    assert detection.predicts_roots
    assert not detection.softmax


WRONG = {
    "nothing": ("", "line 1: the first section must be [net]"),
    "no net": (CONV, "line 1: the first section must be [net]"),
    "no layers": (NET, "has no layers"),
    "option first": ("a=1\n", "line 1: an option precedes all sections"),
    "no option": (
        NET + CONV + "size 3\n",
        "line 7: 'size 3' is neither a [section] nor an option=value",
    ),
    "unknown section": (
        NET + CONV + "[convolutionl]\n",
        "line 7: [convolutionl] is an unknown layer: did you mean 'convolutional'",
    ),
    "recurrent": (NET + "[lstm]\n", "line 5: [lstm] is a recurrent layer: networks with one are"),
    "recurrent convolution": (NET + "[crnn]\n", "line 5: [crnn] is a recurrent layer"),
    "section of Darknet": (NET + "[lrn]\n", "line 5: [lrn] is a layer of Darknet or a fork"),
    "no height": ("[net]\nwidth=8\nchannels=3\n" + CONV, "line 1: [net] has no height: add"),
    "bad number": (
        NET + CONV + "size=3x\n",
        "line 7: [convolutional] size is '3x': give an integer",
    ),
    "empty number": (NET + CONV + "size=\n", "line 7: [convolutional] size is '': give an integer"),
    "fraction": (NET + CONV + "size=1.5\n", "line 7: [convolutional] size is '1.5': give an"),
    "not finite": (
        NET + "[upsample]\nscale=nan\n",
        "line 6: [upsample] scale is 'nan': give a number",
    ),
    "too small": (NET + CONV + "stride=0\n", "line 7: [convolutional] stride is 0: give at least"),
    "no filters": (NET + "[conv]\n", "line 5: [convolutional] has no filters: add filters= and"),
    "no output": (NET + "[connected]\n", "line 5: [connected] has no output: add output="),
    "groups of filters": (NET + CONV + "groups=3\n", "line 5: [convolutional] filters is 14: give"),
    "groups of input": (
        NET + CONV + "groups=2\n",
        "line 7: [convolutional] groups is 2: it does not",
    ),
    "activation": (
        NET + CONV + "activation=leeky\n",
        "line 7: [convolutional] activation is 'leeky': did you mean 'leaky'",
    ),
    "binary": (
        NET + CONV + "xnor=1\n",
        "line 7: [convolutional] the option xnor=1 is not supported: only 0 is",
    ),
    "other activation": (
        NET + CONV + "activation=normalize_channels\n",
        "line 7: [convolutional] the activation normalize_channels is not supported",
    ),
    "dilation": (
        NET + CONV + "size=3\ndilation=2\n",
        "line 8: [convolutional] dilation is 2: it needs pad=1 and an odd size",
    ),
    "shares no layer": (
        NET + CONV + "share_index=0\n",
        "line 7: [convolutional] share_index has 0, which is no layer before this one",
    ),
    "shares a pool": (
        NET + "[maxpool]\n" + CONV + "share_index=0\n",
        "line 8: [convolutional] shares the weights of layer 0: that must be a convolution",
    ),
    "shares another kernel": (
        NET + CONV + CONV + "size=3\nshare_index=-1\n",
        "line 10: [convolutional] shares the weights of layer 0: that must be a convolution with",
    ),
    "shares other channels": (
        NET + CONV + CONV + "share_index=-1\n",
        "line 9: [convolutional] shares the weights of layer 0, whose input has 3 channels, but",
    ),
    "factors": (
        NET + CONV + "[avgpool]\n[sam]\nfrom=0\n",
        "line 8: [sam] multiplies layer 0, 8 x 8 x 14, by 1 x 1 x 14: it needs 8 x 8 x 14",
    ),
    "scales": (
        NET + CONV + "[maxpool]\n[scale_channels]\nfrom=0\n",
        "line 8: [scale_channels] multiplies layer 0, 8 x 8 x 14, by 8 x 8 x 14: it needs 1 x 1",
    ),
    "temperature": (
        NET + "[softmax]\ntemperature=0\n",
        "line 6: [softmax] temperature is 0.0: give more than 0",
    ),
    "suppression": (
        NET + CONV + YOLO + "nms_kind=cornersnms\n",
        "line 11: [yolo] nms_kind is 'cornersnms': only default, greedynms, diounms are supported",
    ),
    "window": (
        NET + CONV + "size=9\n",
        "line 5: [convolutional] the window of 9 is larger than its",
    ),
    "pool padding": (
        NET + "[maxpool]\nsize=2\npadding=2\n",
        "line 7: [maxpool] padding is 2: give",
    ),
    "local pad": (NET + "[local]\nfilters=1\nsize=5\npad=1\n", "line 7: [local] size is 5: pad=1"),
    "no layers=": (
        NET + CONV + "[route]\n",
        "line 7: [route] has no layers: add layers= and integers",
    ),
    "layers": (
        NET + CONV + "[route]\nlayers=-1,1\n",
        "line 8: [route] layers has 1, which is no layer before this one: give 0 to 0, or -1 to",
    ),
    "bad layers": (
        NET + CONV + "[route]\nlayers=0,\n",
        "line 8: [route] layers is '0,': give integers",
    ),
    "far back": (
        NET + CONV + "[shortcut]\nfrom=-2\n",
        "line 8: [shortcut] from has -2, which is no layer before this one: give",
    ),
    "first": (
        NET + "[shortcut]\nfrom=-1\n",
        "line 6: [shortcut] from has -1, which is no layer before this one: there is none",
    ),
    "route sizes": (
        NET + CONV + "[max]\nsize=2\nstride=2\n[route]\nlayers=0,1\n",
        "line 10: [route] concatenates layer 0, 8 x 8 x 14, and layer 1, 4 x 4 x 14: they need",
    ),
    "route groups": (
        NET + CONV + "[route]\nlayers=0\ngroups=4\n",
        "line 9: [route] groups is 4: it",
    ),
    "route group": (
        NET + CONV + "[route]\nlayers=0\ngroup_id=1\n",
        "line 7: [route] group_id is 1:",
    ),
    "reorg": (
        NET + "[reorg]\nstride=2\n",
        "line 6: [reorg] stride is 2: it must divide its input,",
    ),
    "crop": (NET + "[crop]\ncrop_height=9\ncrop_width=8\n", "line 5: [crop] 9 x 8 is larger than"),
    "dropout": (
        NET + "[dropout]\nprobability=1\n",
        "line 6: [dropout] probability is 1.0: give at",
    ),
    "softmax": (NET + "[softmax]\ngroups=7\n", "line 6: [softmax] groups is 7: it does not divide"),
    "two of them": (NET + "[softmax]\n[softmax]\n", "line 6: [softmax] occurs twice"),
    "anchors": (
        NET + CONV + YOLO.replace("2,3,", ""),
        "line 10: [yolo] anchors has 2 numbers: num=2",
    ),
    "no anchors": (
        NET + CONV + "[yolo]\nclasses=2\n",
        "line 7: [yolo] has no anchors: add anchors=",
    ),
    "mask": (
        NET + CONV + YOLO + "mask=2\n",
        "line 11: [yolo] mask is (2,): the anchors are 0 to 1",
    ),
    "filters of head": (
        NET + CONV + YOLO + "mask=0\n",
        "line 7: [yolo] needs 1 (5 + classes) = 7 channels, but its input has 14: change",
    ),
    "coords": (NET + CONV + "[region]\ncoords=5\n", "line 8: [region] coords must be 4"),
    "detection": (
        NET + "[detection]\nclasses=1\ncoords=4\n",
        "line 5: [detection] needs side^2 (classes",
    ),
    "after a head": (
        NET + CONV + YOLO + "[maxpool]\n",
        "line 11: [maxpool] has the [yolo] of line 7 as input, which ends its branch: start",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_with_its_line(text, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        parse_cfg(text, "my.cfg")
    assert str(error.value).startswith("my.cfg")
    assert "\n" not in str(error.value)


def test_files(tmp_path):
    path = tmp_path / "small.cfg"
    path.write_bytes(b"\xef\xbb\xbf" + (NET + CONV).encode())
    description = read_cfg(path)
    assert description.source == str(path)
    assert description.sizes() == ((8, 8, 14),)
    with pytest.raises(InputError, match=r"none.cfg cannot be read as a description.*No such"):
        read_cfg(tmp_path / "none.cfg")
    path.write_bytes(b"\xff\xfe[net]")
    with pytest.raises(InputError, match=r"small.cfg cannot be read as a description: not UTF-8"):
        read_cfg(path)


@pytest.fixture
def cfgs(real_data):
    return real_data / "darknet" / "cfg"


def test_the_dialect_is_found_or_given():
    plain = NET + CONV + YOLO
    for text, dialect, resize in (
        (plain, "pjreddie", "letterbox"),
        (plain + "scale_x_y=1.05\n", "alexeyab", "stretch"),
        (plain.replace("channels", "letter_box=1\nchannels"), "alexeyab", "letterbox"),
        (VECTORS, "pjreddie", "stretch"),
        (NET + CONV + "activation=mish\n", "alexeyab", "stretch"),
        (NET + CONV + "[avgpool]\n", "pjreddie", "stretch"),
    ):
        description = parse_cfg(text)
        assert (description.dialect, description.resize) == (dialect, resize)
    assert parse_cfg(plain, dialect="alexeyab").resize == "stretch"
    assert parse_cfg(plain + "scale_x_y=1\n", dialect="pjreddie").resize == "letterbox"
    with pytest.raises(InputError, match="dialect is 'other'"):
        parse_cfg(plain, dialect="other")


def test_boxes_are_suppressed_as_the_last_layer_says():
    for options, power in (
        ("", None),
        ("nms_kind=greedynms\nbeta_nms=.9\n", 0.6),
        ("nms_kind=diounms\nbeta_nms=.9\n", 0.9),
        ("nms_kind=diounms\n", 0.6),
    ):
        assert parse_cfg(NET + CONV + YOLO + options).nms.distance_power == power
    assert parse_cfg(NET + CONV + YOLO + "nms_kind=diounms\n[route]\nlayers=0\n").nms.kind == (
        "default"
    )


def test_yolo9000_names_its_files(cfgs):
    description = read_cfg(cfgs / "yolo9000.cfg")
    (head,) = description.heads()
    assert (head.tree, head.map) == ("data/9k.tree", "data/coco9k.map")
    assert head.num_classes == 9418
    assert description.sizes()[-1] == (17, 17, 3 * (5 + 9418))
    text = NET + CONV + "[region]\nnum=2\nclasses=2\nanchors=1,1,2,2\ntree=a.tree\nmap=b.map\n"
    (head,) = parse_cfg(text).heads()
    assert (head.tree, head.map) == ("a.tree", "b.map")


# Of the files as they were published, and of their headers: 20 bytes from version 0.2 on, 16
# before.
PUBLISHED_BYTES = {
    "yolov1": (789_312_988, 16),
    "yolov2": (203_934_260, 16),
    "yolov2-voc": (202_704_260, 16),
    "yolov2-tiny": (44_948_600, 20),
    "yolov3": (248_007_048, 20),
    "yolov3-tiny": (35_434_956, 20),
    "yolov4": (257_717_640, 20),
    "yolov4-tiny": (24_251_276, 20),
    "yolo9000": (195_230_024, 20),
}


@pytest.mark.parametrize("name", PUBLISHED_BYTES)
def test_counts_are_those_of_the_published_files(cfgs, name):
    size, header = PUBLISHED_BYTES[name]
    folder = cfgs.with_name("cfg_alexeyab") if "v4" in name else cfgs
    description = read_cfg(folder / f"{name}.cfg")
    assert header + 4 * (description.num_parameters + description.num_statistics) == size


def test_parameter_counts(cfgs):
    count = {
        name: (description.num_parameters, description.num_statistics)
        for name in ("darknet19", "darknet53", "yolov2-voc", "yolov3")
        for description in [read_cfg(cfgs / f"{name}.cfg")]
    }
    assert count == {
        "darknet19": (20_842_376, 14_400),
        "darknet53": (41_609_928, 35_712),
        "yolov2-voc": (50_655_389, 20_672),  # together 50,676,061
        "yolov3": (61_949_149, 52_608),  # together 62,001,757
    }
