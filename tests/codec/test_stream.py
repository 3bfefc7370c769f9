"""The `.nfv` container: what is written comes back, and every damage is one sentence."""

import dataclasses
import json
import struct
import zlib

import pytest

from neural_fields import InputError
from neural_fields.codec.stream import MAGIC, GroupEntry, StreamFile, StreamHeader, write_stream

GROUPS = [bytes(range(200)), b"second" * 40]
HEADER = StreamHeader(
    width=96,
    height=64,
    n_frames=20,
    fps=(30000, 1001),
    times_ms=None,
    source={"pix_fmt": "yuv420p"},
    made={"isa": "portable", "threads": 2},
    groups=(GroupEntry(0, 12, 200), GroupEntry(12, 8, 240)),
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.nfv"
    assert write_stream(path, HEADER, GROUPS) == path.stat().st_size
    return path


def test_it_comes_back_in_any_order(path):
    with StreamFile(path) as stream:
        assert stream.header == HEADER
        assert stream.group(1) == GROUPS[1]
        assert stream.group(0) == GROUPS[0]
        assert [HEADER.group_of(k) for k in (0, 11, 12, 19)] == [0, 0, 1, 1]
        with pytest.raises(InputError, match="frame 20"):
            HEADER.group_of(20)


def _read_all(path):
    with StreamFile(path) as stream:
        return [stream.group(k) for k in range(len(stream.header.groups))]


def test_every_changed_byte_is_noticed(path):
    data = path.read_bytes()
    for at in range(len(data)):
        for change in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[at] ^= change
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"a\.nfv"):
                _read_all(path)


def test_every_prefix_is_noticed(path):
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"a\.nfv"):
            _read_all(path)


def _with_header(path, **changes):
    """A file whose header is another, and whose checksum fits."""
    entries = dataclasses.asdict(HEADER)
    entries["groups"] = [[g.first, g.n_frames, g.n_bytes] for g in HEADER.groups]
    text = json.dumps({**entries, **changes}).encode()
    start = struct.pack("<8sHI", MAGIC, 1, len(text)) + text
    path.write_bytes(start + struct.pack("<I", zlib.crc32(start)))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"width": 1 << 40},
        {"height": 1.5},
        {"n_frames": 21},
        {"fps": [0, 1]},
        {"fps": [1]},
        {"times_ms": [1, 2]},
        {"source": 3},
        {"groups": [[0, 12, 200], [13, 7, 240]]},
        {"groups": [[0, 20]]},
        {"groups": [[0, 20, -5]]},
        {"more": 1},
    ],
)
def test_headers_that_make_no_sense_are_refused(path, changes):
    with pytest.raises(InputError, match=r"a\.nfv"):
        StreamFile(_with_header(path, **changes))


def test_other_files_and_newer_versions_are_refused(path, tmp_path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + struct.pack("<H", 9) + data[10:])
    with pytest.raises(InputError, match="format 9"):
        StreamFile(path)
    path.write_bytes(b"RIFF" + data[4:])
    with pytest.raises(InputError, match="something else"):
        StreamFile(path)
    with pytest.raises(InputError, match="there is none"):
        StreamFile(tmp_path / "missing.nfv")
