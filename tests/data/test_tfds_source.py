"""TFDS data sets by name: read without TensorFlow, and refused with the fix."""

import contextlib
import io
import json
import pickle
import shutil
import socket
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import InputError, OptionError
from jaxvision.data import Tfds
from jaxvision.data.sources.tfds_source import TfdsBuilder

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
COLOURS = np.stack([GREY * 3, 255 - GREY, GREY * 9], axis=-1)


def encoded(pixels, file_format, mode):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format=file_format)
    return file.getvalue()


FILES = [
    encoded(COLOURS, "PNG", "RGB"),
    encoded(COLOURS, "JPEG", "RGB"),
    encoded(COLOURS, "PNG", "P"),
    encoded(COLOURS, "JPEG", "CMYK"),
    encoded(GREY, "PNG", "L"),
    encoded(GREY, "JPEG", "L"),
]


class ToyPhotos(tfds.core.GeneratorBasedBuilder):
    """A few files of every kind; the label is the place in FILES, times a thousand."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(num_classes=10_000),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(FILES), "test": self._generate_examples(FILES[:2])}

    def _generate_examples(self, files):
        for i, file in enumerate(files):
            yield i, {"image": io.BytesIO(file), "label": 1000 * i}


class ToyTexts(tfds.core.GeneratorBasedBuilder):
    """No images; whether text and label are the supervised keys is the config."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012, as TFDS wants it
        tfds.core.BuilderConfig(name="supervised"),
        tfds.core.BuilderConfig(name="plain"),
    ]

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=(
                ("text", "label") if self.builder_config.name == "supervised" else None
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "a", "label": 1}


def prepare(builder, folder, **options):
    tfds.disable_progress_bar()
    builder(data_dir=folder, file_format="array_record", **options).download_and_prepare()


def open_named(name, folder, split="train"):
    return Tfds(name, split, dir=folder)


def error_of(name, folder, split="train"):
    with pytest.raises(InputError) as error:
        open_named(name, folder, split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(ToyPhotos, folder)
    return folder


def damage(prepared, folder, file, change):
    """A copy of a prepared data set of which one file was changed."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    (path,) = (folder / "toy_photos" / "1.0.0").glob(file)
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["toy_photos", "toy_photos:1.0.0", "ToyPhotos"])
def test_every_file_becomes_what_pillow_makes_of_it_in_rgb(folder, name):
    source = open_named(name, folder)
    records = [source[i] for i in range(len(source))]
    assert sorted(r["label"] for r in records) == [0, 1000, 2000, 3000, 4000, 5000]
    for record in records:
        with Image.open(io.BytesIO(FILES[record["label"] // 1000])) as image:
            expected = np.asarray(image.convert("RGB"))
        assert record["image"].dtype == np.uint8
        np.testing.assert_array_equal(record["image"], expected)
        if record["label"] == 0:
            np.testing.assert_array_equal(record["image"], COLOURS)


def test_labels_are_known_without_decoding(folder, monkeypatch):
    source = open_named("toy_photos", folder)
    expected = [source[i]["label"] for i in range(len(source))]
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(source.labels, expected)
    assert source.labels is source.labels  # read once
    assert [source.target(i) for i in range(len(source))] == [{"label": x} for x in expected]
    assert (len(source.class_names), source.class_names[7]) == (10_000, "7")


def test_records_are_named_by_set_split_and_place(folder):
    assert open_named("toy_photos", folder, "train[:50%]").where(2) == (
        "toy_photos/1.0.0 train[:50%], record 2"
    )


def test_a_source_can_be_sent_to_a_worker_process(folder):
    source = open_named("toy_photos", folder)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.where(0) == source.where(0)
    for i in range(len(source)):
        np.testing.assert_array_equal(copy[i]["image"], source[i]["image"])


@pytest.mark.parametrize(
    ("split", "count"),
    [("train", 6), ("test", 2), ("train[:50%]", 3), ("train[4:]", 2), ("train+test", 8)],
)
def test_splits_and_slices(folder, split, count):
    source = open_named("toy_photos", folder, split)
    assert len(source) == count
    assert len({source[i]["label"] for i in range(count)}) == min(count, 6)


@pytest.mark.parametrize(
    "split", ["valid", "", "train[:", "train[:200%]", "train[100:]", "train[5:2]"]
)
def test_an_unknown_split_is_refused_when_it_is_opened(folder, split):
    message = error_of("toy_photos", folder, split)
    assert message == f"TFDS data set 'toy_photos' has no split {split!r}: it has test, train"


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_named("toy_photos", f"~/{folder.name}")) == 6


def test_a_set_of_tfds_is_read_by_its_own_name(tmp_path):
    with tfds.core.registered.skip_registration():

        class Mnist(ToyPhotos):
            VERSION = tfds.core.Version("3.0.1")

    prepare(Mnist, tmp_path)
    source = open_named("mnist", tmp_path, "test")
    assert source.where(1) == "mnist/3.0.1 test, record 1"
    assert source[0]["image"].shape == (4, 5, 1)  # TFDS's own code says that MNIST is grey


def no_network(*args, **options):
    raise SystemExit(f"went to the network: {args}")


def test_a_set_that_is_not_prepared_needs_neither_tensorflow_nor_network(tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # To import it is an error.
    message = error_of("mnist", tmp_path)
    assert message.startswith(f"TFDS data set 'mnist' is not prepared in {tmp_path}/mnist/3.0.1: ")
    assert f"tfds build mnist --file_format=array_record --data_dir={tmp_path}`" in message
    assert message.endswith("or name the folder that has it with dir")
    assert list(tmp_path.iterdir()) == []


def test_the_command_to_prepare_names_the_config(tmp_path):
    assert "tfds build emnist/letters --file" in error_of("emnist/letters", tmp_path)


def test_an_empty_folder_is_not_prepared(tmp_path):
    (tmp_path / "toy_photos" / "1.0.0").mkdir(parents=True)
    assert "is not prepared" in error_of("toy_photos", tmp_path)


@pytest.mark.parametrize("name", [None, ""])
def test_no_name(tmp_path, name):
    assert error_of(name, tmp_path).startswith(f"name is {name!r}: give a TFDS data set")


def test_an_unknown_name(tmp_path):
    message = error_of("mnits", tmp_path)
    assert message == "TFDS knows no data set 'mnits': see `tfds.list_builders()`"


@pytest.mark.parametrize("name", ["mnist:9.9.9", "emnist/leters", "mnist:", "a b", "mnist/x=3"])
def test_a_wrong_version_config_or_syntax(tmp_path, name):
    message = error_of(name, tmp_path)
    assert message.startswith(f"TFDS cannot open {name!r} (")
    assert message.endswith(": give a name as NAME, NAME/CONFIG or NAME:VERSION")


@pytest.mark.parametrize("config", ["supervised", "plain"])
def test_a_set_without_image_and_label(tmp_path, config):
    prepare(ToyTexts, tmp_path, config=config)
    message = error_of(f"toy_texts/{config}", tmp_path)
    assert message.startswith("TFDS data set 'toy_texts' names no image and label")


def test_a_set_without_random_access(folder, tmp_path):
    def as_tfrecord(content):
        info = json.loads(content)
        return json.dumps({**info, "fileFormat": "tfrecord"}).encode()

    damage(folder, tmp_path, "dataset_info.json", as_tfrecord)
    message = error_of("toy_photos", tmp_path)
    assert message.endswith("has no random access: prepare it with --file_format=array_record")


@pytest.mark.parametrize(
    "change", [lambda content: content[:-50], lambda content: None], ids=["cut short", "missing"]
)
def test_a_damaged_file_is_named_when_it_is_read(folder, tmp_path, change):
    damage(folder, tmp_path, "toy_photos-train*", change)
    source = open_named("toy_photos", tmp_path)
    with pytest.raises(InputError) as error:
        source[0]
    message = str(error.value)
    assert message.startswith(f"toy_photos/1.0.0 train, record 0 in {tmp_path}/toy_photos/1.0.0 ")
    assert message.endswith("prepare the data set again")
    assert "\n" not in message


def test_an_image_that_cannot_be_decoded_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FILES", [FILES[0][:40]])
    with tfds.core.registered.skip_registration():

        class ToyPhotosCut(ToyPhotos):
            pass

    prepare(ToyPhotosCut, tmp_path)
    source = TfdsBuilder(ToyPhotosCut(data_dir=tmp_path), "train")
    with pytest.raises(InputError, match=r"^toy_photos_cut/1.0.0 train, record 0 in .*again$"):
        source[0]


WHOLE = (0.0, 0.0, 1.0, 1.0)  # y1, x1, y2, x2


class ToyObjects(tfds.core.GeneratorBasedBuilder):
    """A coloured file with objects and a grey one without, in the form of TFDS's coco and voc."""

    VERSION = tfds.core.Version("1.0.0")
    LABEL = tfds.features.ClassLabel(names=["cat", "dog"])
    FIRST = (0.25, 0.2, 1.0, 0.6)

    def _info(self):
        parts = {
            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),  # any, unlike BBoxFeature
            "is_crowd": np.bool_,
            "area": np.int64,
            **({"label": self.LABEL} if self.LABEL else {}),
        }
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "objects": tfds.features.Sequence(parts),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        objects = [
            {"bbox": self.FIRST, "is_crowd": True, "area": 7},
            {"bbox": WHOLE, "is_crowd": False, "area": 20},
        ]
        if self.LABEL:
            objects = [{**x, "label": label} for x, label in zip(objects, (1, 0), strict=True)]
        yield 0, {"image": io.BytesIO(FILES[0]), "objects": objects}
        yield 1, {"image": io.BytesIO(FILES[4]), "objects": []}


def objects_of(folder, **changes):
    """The source of a `ToyObjects` with other attributes, and its records, the full one first."""
    with tfds.core.registered.skip_registration():
        builder = type("ToyObjects", (ToyObjects,), changes)(
            data_dir=folder, file_format="array_record"
        )
    builder.download_and_prepare()
    source = TfdsBuilder(builder, "train", kind="detection")
    return source, sorted((source[i] for i in range(2)), key=lambda r: -len(r["boxes"]))


def test_objects_in_pixels(tmp_path):
    source, (full, empty) = objects_of(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert len(source) == 2
    np.testing.assert_array_equal(full["image"], COLOURS)
    np.testing.assert_allclose(full["boxes"], [[1, 1, 3, 4], [0, 0, 5, 4]], rtol=1e-6)
    assert full["labels"].tolist() == [1, 0]
    assert full["crowd"].tolist() == [True, False]
    assert full["difficult"].tolist() == [False, False]
    assert (full["area"].dtype, full["area"].tolist()) == (float, [7, 20])
    assert empty["boxes"].shape == (0, 4)
    assert empty["area"].shape == (0,)
    assert empty["image"].shape == (4, 5, 3)
    assert full["size"] == (4, 5)
    assert not hasattr(source, "labels")
    assert source.where(1) == "toy_objects/1.0.0 train, record 1"


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0.75, 0.2, 0.5, 0.6), r"box 1 \(1, 3, 3, 2\) has its corners in the wrong order"),
        ((0.5, 0.2, 0.5, 0.6), r"box 1 \(1, 2, 3, 2\) has no area"),
        ((0.0, 0.2, float("nan"), 0.6), r"box 1 \(1, 0, 3, nan\) is not finite"),
        ((0.0, 0.0, 1.25, 1.0), r"box 1 \(0, 0, 5, 5\) reaches beyond the image of 5 x 4"),
    ],
)
def test_a_bad_box_is_named_when_it_is_read(tmp_path, box, reason):
    match = rf"^toy_objects/1.0.0 train, record .: {reason}.*: prepare the data set again without"
    with pytest.raises(InputError, match=match) as error:
        objects_of(tmp_path, FIRST=box)
    assert "\n" not in str(error.value)


def test_what_is_beyond_the_image_by_rounding_is_cut_off(tmp_path):
    _, (full, _) = objects_of(tmp_path, FIRST=(-0.1, 0.0, 1.1, 1.05))
    np.testing.assert_array_equal(full["boxes"], [[0, 0, 5, 4]] * 2)


def test_classes_without_names_are_numbered_if_their_number_is_known(tmp_path):
    source, _ = objects_of(tmp_path, LABEL=tfds.features.ClassLabel(num_classes=3))
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize("label", [None, tfds.features.Scalar(dtype=np.int64)])
def test_objects_without_classes_are_not_for_detection(tmp_path, label):
    with pytest.raises(InputError, match=r"'toy_objects' has no names for the classes of its obj"):
        objects_of(tmp_path, LABEL=label)


def test_targets_are_the_records_and_only_headers_are_read(tmp_path, monkeypatch):
    source, _ = objects_of(tmp_path)
    expected = [source[index] for index in range(2)]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    for index, record in enumerate(expected):
        del record["image"]
        target = source.target(index)
        assert target.keys() == record.keys()
        for key, value in record.items():
            np.testing.assert_array_equal(target[key], value)


@pytest.mark.parametrize("kind", ["detection", "segmentation", "landmarks"])
def test_a_set_of_another_kind(folder, kind):
    message = {
        "detection": r"^TFDS data set 'toy_photos' has no image and objects with a bbox",
        "segmentation": r"^mask is 'segmentation_mask', but .* such a mask: it has image, label$",
        "landmarks": "^unknown kind 'landmarks': known: classification, detection, segmentation",
    }
    with pytest.raises(InputError, match=message[kind]):
        Tfds("toy_photos", "train", dir=folder, kind=kind)


MARKER = """
import pathlib
import tensorflow_datasets as tfds

pathlib.Path(__file__).with_name("marker").touch()


class Image(tfds.features.Image):
    pass
"""


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """A folder of a data set without code in TFDS."""
    folder = tmp_path_factory.mktemp("gathered")
    with tfds.core.registered.skip_registration():

        class Gathered(ToyPhotos):
            pass

    prepare(Gathered, folder)
    return folder


@pytest.fixture
def evil(gathered, tmp_path, monkeypatch):
    """A folder of a data set without code in TFDS, and what makes its features.json foreign.

    Importing the module evil_features, which is beside it, leaves a file "marker".
    """
    shutil.copytree(gathered, tmp_path / "data")
    (tmp_path / "evil_features.py").write_text(MARKER)
    monkeypatch.syspath_prepend(tmp_path)
    known = tfds.features.FeatureConnector._registered_features
    monkeypatch.delitem(known, "evil_features.Image", raising=False)
    monkeypatch.delitem(sys.modules, "evil_features", raising=False)
    file = tmp_path / "data" / "gathered" / "1.0.0" / "features.json"
    assert len(Tfds("gathered", "train", dir=tmp_path / "data")) == 6
    return tmp_path, file


def foreign(content, form):
    """A features.json that names a class of evil_features, in each way that TFDS reads."""
    name = "evil_features.Image"
    if form == "nested":
        content["featuresDict"]["features"]["image"]["pythonClassName"] = name
    elif form == "at the top":
        content["python_class_name"] = name
        del content["pythonClassName"]
    elif form == "escaped":
        text = json.dumps(foreign(content, "nested"))
        return text.replace("evil", "\\u0065vil").replace("pythonC", "python\\u0043")
    elif form == "legacy":
        content = {"type": name, "content": {}}
    else:
        inner = json.dumps({"feature": {"type": name, "content": {}}})
        content = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "jsonFeature": {"json": inner},
        }
    return content


@pytest.mark.parametrize("form", ["nested", "at the top", "escaped", "legacy", "json in json"])
@pytest.mark.parametrize("name", ["gathered", "gathered:1.0.0"])
def test_a_folder_that_names_classes_outside_tfds_is_refused_and_runs_no_code(evil, form, name):
    folder, file = evil
    content = foreign(json.loads(file.read_text()), form)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    for kind in ("classification", "detection", "segmentation"):
        with pytest.raises(
            InputError,
            match=rf"^{file} names classes outside tensorflow_datasets, .*: evil_features.Image: ",
        ):
            Tfds(name, "train", dir=folder / "data", kind=kind)
    assert not (folder / "marker").exists()
    assert "evil_features" not in sys.modules
    # TFDS itself would have run it.
    with contextlib.suppress(Exception):
        tfds.builder(name, data_dir=folder / "data")
    assert (folder / "marker").exists()


def test_the_folder_that_is_checked_is_the_one_that_tfds_reads(evil):
    """TFDS follows the name of a default configuration out of the data set's folder."""
    folder, file = evil
    content = foreign(json.loads(file.read_text()), "nested")
    elsewhere = folder / "elsewhere"
    file.parent.rename(elsewhere)
    (elsewhere / "features.json").write_text(json.dumps(content))
    (folder / "data" / "gathered" / ".config").mkdir()
    (folder / "data" / "gathered" / ".config" / "metadata.json").write_text(
        json.dumps({"default_config_name": "../../bait"})
    )
    (folder / "bait").mkdir()
    (folder / "bait" / "1.0.0").symlink_to(elsewhere)
    with pytest.raises(InputError, match="names classes outside tensorflow_datasets"):
        Tfds("gathered", "train", dir=folder / "data")
    assert not (folder / "marker").exists()
    with contextlib.suppress(Exception):
        tfds.builder("gathered", data_dir=folder / "data")
    assert (folder / "marker").exists()


def test_a_damaged_features_json_is_named(evil):
    folder, file = evil
    file.write_text("{")
    with pytest.raises(InputError, match=rf"^{file} cannot be read \(.*prepare the data set again"):
        Tfds("gathered", "train", dir=folder / "data")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kaggle:mnist", "is of the community 'kaggle', whose code TFDS would fetch and run"),
        ("huggingface:x/y", "is of the community 'huggingface'"),
        ("mnist/data_dir=elsewhere", r"cannot open .* \(it sets data_dir\)"),
    ],
)
def test_a_name_that_would_fetch_code_or_leave_the_folder_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        Tfds(name, "train", dir=tmp_path)


def test_photos_without_objects_are_not_for_detection(tmp_path):
    builder = ToyPhotos(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    with pytest.raises(InputError, match="'toy_photos' has no image and objects with a bbox"):
        TfdsBuilder(builder, "train", kind="detection")


class ToyMasks(tfds.core.GeneratorBasedBuilder):
    """Two files with masks of some values."""

    VERSION = tfds.core.Version("1.0.0")
    VALUES = (0, 255)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        mask = np.zeros(COLOURS.shape[:2], np.uint8)
        mask[:, ::2] = self.VALUES[1]
        mask[0] = self.VALUES[-1]
        for number in range(2):
            png = io.BytesIO(encoded(mask, "PNG", "L"))
            yield number, {"image": io.BytesIO(FILES[0]), "segmentation_mask": png}


@pytest.mark.parametrize(
    ("values", "binary", "expected"),
    [
        ((0, 255), None, [0, 1]),
        ((0, 255), False, [0, 255]),
        ((0, 1, 2), None, [0, 1, 2]),
        ((0, 1, 255), None, [0, 1, 255]),
    ],
)
def test_masks_of_0_and_255_are_binary(tmp_path, values, binary, expected):
    with tfds.core.registered.skip_registration():
        builder = type("ToyMasks", (ToyMasks,), {"VALUES": values})(
            data_dir=tmp_path, file_format="array_record"
        )
    builder.download_and_prepare()
    if values == (0, 1, 2):
        with pytest.raises(InputError, match=r"record . has the label 2, but the masks are"):
            TfdsBuilder(builder, "train", kind="segmentation", binary=True)[0]
    for given in (True, None) if values == (0, 255) else ():
        how = {"binary": given, "class_names": ("a", "b", "c")}
        with pytest.raises(OptionError, match=r"^binary is .* there are 3 class_names: give two"):
            TfdsBuilder(builder, "train", kind="segmentation", **how)
    source = TfdsBuilder(builder, "train", kind="segmentation", binary=binary)
    assert np.unique(source[0]["labels"]).tolist() == expected
    np.testing.assert_array_equal(source.target(0)["labels"], source[0]["labels"])
