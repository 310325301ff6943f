"""Videos: read, predicted and written; what is damaged keeps what comes before."""

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import VideoFrames
from jaxvision.predict import VideoWriter

pytest.importorskip("av")

RATE = Fraction(30000, 1001)
COUNT = 20


def picture(index, size=(48, 64)):
    """Red above, and a green that changes from frame to frame at the left."""
    image = np.zeros((*size, 3), np.uint8)
    image[: size[0] // 2, :, 0] = 200
    image[:, : size[1] // 2, 1] = 10 * index
    return image


def write(path, size=(48, 64), noise=False):
    rng = np.random.default_rng(0)
    with VideoWriter(path, RATE) as writer:
        for index in range(COUNT):
            random = rng.integers(0, 256, (*size, 3), np.uint8)
            writer.write(random if noise else picture(index, size))
    return path


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_what_is_written_is_read_with_its_times(tmp_path, size):
    video = VideoFrames(write(tmp_path / "a.mp4", size))
    assert (video.frame_rate, video.count) == (RATE, COUNT)
    frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(COUNT))
    np.testing.assert_allclose([x.time for x in frames], np.arange(COUNT) / float(RATE), atol=1e-3)
    even = tuple(side + side % 2 for side in size)
    for frame in frames:
        assert frame.image.shape == (*even, 3)
        error = np.abs(frame.image[: size[0], : size[1]] - picture(frame.index, size).astype(int))
        assert np.median(error) < 8
    assert not list(tmp_path.glob("*.tmp"))


def test_a_video_of_a_telephone_is_turned_upright(tmp_path):
    path = write(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    # The matrix of the track's header, as of a portrait that is stored as a landscape.
    place = content.find(b"tkhd") + 4 + 20 + 8 + 4 * 2 + 4
    matrix = struct.unpack(">9i", content[place : place + 36])
    assert matrix == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *turned)
    path.write_bytes(content)
    frame = next(iter(VideoFrames(path)))
    assert frame.shape == (64, 48, 3)
    assert frame[:, 30:, 0].mean() > 150, "what was above is at the right"
    assert frame[:, :18, 0].mean() < 50


def damaged(path, how):
    content = bytearray(path.read_bytes())
    if how == "zeroed":
        middle = len(content) // 2
        content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content[: len(content) // 2] if how == "cut off" else content)
    return path


def test_the_frames_before_a_damage_are_read(tmp_path):
    path = damaged(write(tmp_path / "a.mp4", noise=True), "zeroed")
    frames, read = iter(VideoFrames(path)), []
    with pytest.raises(InputError, match=r"a\.mp4: frame \d+ cannot be read \(.*\): correct the"):
        # Not `list(frames)`, of which nothing would be left.
        read.extend(frame for frame in frames)
    assert 0 < len(read) < COUNT


def test_a_trimmed_video_is_whole_and_a_cut_one_is_not(tmp_path):
    """A telephone trims by the edit list of the track, without encoding again."""
    import av

    path, trimmed, cut = (tmp_path / f"{name}.mp4" for name in ("whole", "trimmed", "cut"))
    # With the index first, so that a file that is cut off can be opened.
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=RATE, options={"g": "4"})
        stream.width, stream.height = 64, 48
        for index in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index))))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        place = [packet.pos for packet in container.demux(video=0)][COUNT // 2]
    content = bytearray(path.read_bytes())
    cut.write_bytes(content[:place])
    place = content.find(b"elst") + 4 + 8
    duration, start = struct.unpack(">ii", content[place : place + 8])
    content[place : place + 8] = struct.pack(">ii", duration // 4, start)
    trimmed.write_bytes(content)
    assert VideoFrames(trimmed).count == COUNT
    assert len(list(VideoFrames(trimmed))) in (5, 6), "the durations are rounded"
    with pytest.raises(InputError, match=rf"cut off: it has {COUNT // 2} of {COUNT} frames"):
        list(VideoFrames(cut))


def test_what_is_no_video_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/x.ts\n")
    cut = damaged(write(tmp_path / "cut.mp4"), "cut off")
    for name in ("empty.mp4", "list.mp4", cut.name):
        with pytest.raises(InputError, match=rf"{name} cannot be read as a video \("):
            VideoFrames(tmp_path / name)
    with pytest.raises(InputError, match="there is no such file"):
        VideoFrames(tmp_path / "gone.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"PyAV, which is not installed: pip install 'jaxvision\["):
        VideoFrames(cut)


def test_a_writer_keeps_what_it_has_and_leaves_nothing_without_pictures(tmp_path):
    with VideoWriter(tmp_path / "none.mp4", RATE):
        pass

    def interrupted():
        with VideoWriter(tmp_path / "some.mp4", RATE) as writer:
            writer.write(picture(0))
            writer.write(picture(0)[:10, :10])

    with pytest.raises(AssertionError, match="picture is 10 x 10: give 48 x 64"):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["some.mp4"]
    assert len(list(VideoFrames(tmp_path / "some.mp4"))) == 1
