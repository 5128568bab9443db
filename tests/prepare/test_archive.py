"""Archives as streams: what they hold, whatever they are packed with, and errors that name the part and the byte."""

import io
import random
import re
import tarfile

import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.archives.archive import Archive, find_archive
from tests.support.archives import NAME, cut, gzipped, tar, zstd

RNG = random.Random(1)
FILES = [(f"{NAME}/{'folder/' * (n % 40)}é{n}.png", RNG.randbytes(3000 + 211 * n)) for n in range(80)]


def members():
    """The files, among all that is no file."""
    for n, (name, content) in enumerate(FILES):
        yield f"{NAME}/d{n}", None
        yield f"./{name}", content
        yield f"{NAME}/l{n}.png", "x" * 150 * (n % 2) + name
        yield f"{NAME}/._é{n}.png", b"companion"


PACKED = {
    "plain": lambda data: data,
    "zstd": zstd,
    "frames": lambda data: zstd(data, 7),
    "gzip": gzipped,
    "gzip members": lambda data: gzipped(data[:9000]) + gzipped(data[9000:]),
}


def read(folder):
    return [(member.name, member.read()) for member in find_archive([folder], NAME).members()]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("packing", PACKED)
def test_every_file_comes_once_and_whole(tmp_path, form, packing):
    cut(PACKED[packing](tar(members(), form)), tmp_path)
    assert read(tmp_path) == FILES


@pytest.mark.parametrize("parts", [1, 2, 60])
def test_parts_may_be_cut_anywhere(tmp_path, parts):
    cut(zstd(tar(members())), tmp_path, parts, seed=parts)
    assert read(tmp_path) == FILES


def test_a_first_part_of_two_bytes(tmp_path):
    data = zstd(tar(members()))
    (tmp_path / f"{NAME}.part00").write_bytes(data[:2])
    (tmp_path / f"{NAME}.part01").write_bytes(data[2:])
    assert read(tmp_path) == FILES


def test_names_that_are_no_utf8(tmp_path):
    """They can be printed, and looked up in a database."""
    cut(tar([("caf\udce9.png", b"x"), ("b.png", b"y")], tarfile.GNU_FORMAT), tmp_path)
    assert read(tmp_path) == [(r"caf\xe9.png", b"x"), ("b.png", b"y")]


def test_a_member_need_not_be_read(tmp_path):
    cut(zstd(tar(members())), tmp_path)
    names = []
    for number, member in enumerate(find_archive([tmp_path], NAME).members()):
        names.append(member.name)
        if number % 3 == 0:
            assert member.read() == FILES[number][1]
    assert names == [name for name, _ in FILES]


@pytest.mark.parametrize("name", ["{}.tar.zst", "{}.tar", "{}.tgz", "{}.part0", "{}.tar.zst.part1", "{}.part001"])
def test_names_of_archives(tmp_path, name):
    (tmp_path / name.format(NAME)).write_bytes(zstd(tar(members())))
    for other in (f"{NAME}.part00.incomplete", f"{NAME}.partial", "other.part00", f"{NAME}2.part00", f"{NAME}.txt"):
        (tmp_path / other).write_bytes(b"x")
    assert read(tmp_path) == FILES
    assert find_archive([tmp_path / "missing", tmp_path], NAME) == find_archive([tmp_path], NAME)
    assert find_archive([tmp_path], "third") is None


def test_more_than_ten_parts_come_by_number(tmp_path):
    data = zstd(tar(members()))
    for number in range(12):
        (tmp_path / f"{NAME}.part{number}").write_bytes(
            data[number * 9000 : (number + 1) * 9000 if number < 11 else None]
        )
    assert read(tmp_path) == FILES


def test_missing_parts_are_named_before_anything_is_read(tmp_path):
    parts = cut(zstd(tar(members())), tmp_path)
    for number in (2, 5):
        parts[number].unlink()
    with pytest.raises(NotFoundError, match=r"holds deid_png.part09, but not deid_png.part02, deid_png.part05\."):
        find_archive([tmp_path], NAME)


def swap(first, second):
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


CUT = r"its compressed data are cut\. '.*part{:02d}' or an earlier part is truncated, or a part behind it is missing"
WRONG = "Compare the size and hash of this part|an earlier part is truncated"
FAULTS = {
    "last missing": (lambda parts: parts[9].unlink(), 8, CUT.format(8)),
    "last truncated": (lambda parts: rewrite(parts[9], lambda data: data[:-50]), 9, CUT.format(9)),
    "last empty": (lambda parts: rewrite(parts[9], lambda _: b""), 9, CUT.format(9)),
    "truncated": (lambda parts: rewrite(parts[4], lambda data: data[:-50]), range(4, 10), WRONG),
    "other bytes": (lambda parts: rewrite(parts[4], lambda data: RNG.randbytes(len(data))), range(4, 10), WRONG),
    "disorder": (lambda parts: swap(parts[4], parts[6]), range(4, 10), WRONG),
    "first twice": (lambda parts: rewrite(parts[1], lambda _: parts[0].read_bytes()), range(1, 10), WRONG),
    "other first": (lambda parts: swap(parts[0], parts[6]), 0, r"neither as tar nor as Zstandard or gzip"),
    "no archive": (lambda parts: rewrite(parts[0], lambda _: b"hello" * 1000), 0, r"is its first part missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_and_placed(tmp_path, fault):
    damage, places, words = FAULTS[fault]
    parts = cut(zstd(tar(members())), tmp_path)
    damage(parts)
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path)
    message = str(error.value)
    (byte, number) = re.findall(r"at byte ([0-9,]+) of '.*part([0-9]+)' or shortly before it", message)[0]
    assert int(number) in ([places] if isinstance(places, int) else places)
    assert int(byte.replace(",", "")) <= parts[int(number)].stat().st_size
    assert message.endswith("Download what is wrong again; then the same command goes on where this one stopped.")
    assert "\n" not in message


def test_a_wrong_byte_shows_at_the_checksum(tmp_path):
    data = bytearray(gzipped(tar(members())))
    data[len(data) // 2] ^= 1
    cut(bytes(data), tmp_path)
    with pytest.raises(UserError, match=r"The archive cannot be read at byte .*part0[5-9]'"):
        read(tmp_path)


def test_a_part_of_odd_size_is_named(tmp_path):
    data = zstd(tar(members()))
    for number in range(8):
        last = number == 7
        content = data[number * 20_000 : None if last else (number + 1) * 20_000]
        (tmp_path / f"{NAME}.part{number:02d}").write_bytes(content[:-1000] if number == 3 else content)
    with pytest.raises(UserError, match=r"'deid_png.part03' has 19,000 bytes, but most parts have 20,000\. Download"):
        read(tmp_path)


@pytest.mark.parametrize("packing", ["plain", "zstd"])
def test_a_tar_without_its_end_is_truncated(tmp_path, packing):
    data = tar(members())
    end = data.rindex(b"companion")
    for length in (end, end + 512 - end % 512):
        cut(PACKED[packing](data[:length]), tmp_path)
        with pytest.raises(UserError, match=r"ends before the end mark of tar\. 'deid_png.part09' or an earlier"):
            read(tmp_path)


def test_a_damaged_header_is_not_the_end(tmp_path):
    """`tarfile` stops there without a word."""
    data = bytearray(tar([(f"{n}.png", bytes(700)) for n in range(20)], tarfile.GNU_FORMAT))
    data[1536 * 10 + 5 : 1536 * 10 + 9] = b"\xff\xff\xff\xff"
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as archive:
        assert len(list(archive)) < 20
    cut(bytes(data), tmp_path)
    with pytest.raises(UserError, match="no header of tar where one is due"):
        read(tmp_path)


def test_sizes_and_names_that_are_none(tmp_path):
    good = tar([("a.png", b"x")], tarfile.PAX_FORMAT)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / f"{NAME}.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + good)
    with pytest.raises(UserError, match="a name in the tar has no end"):
        read(tmp_path)
    for record, words in (
        (b"3 a=b\n", "a header of pax is damaged"),
        (b"11 size=-1\n", "a size in the tar is no number"),
    ):
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, len(record)
        block = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
        (tmp_path / f"{NAME}.tar").write_bytes(block + good)
        with pytest.raises(UserError, match=words):
            read(tmp_path)


def test_a_long_window_is_not_read_as_a_stream(tmp_path):
    """The header of a frame by `zstd --long=31`: its window has 2 GiB."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b0000_0000, (31 - 10) << 3]) + b"\x01\x00\x00"
    cut(frame + bytes(20), tmp_path, 2)
    with pytest.raises(UserError, match=r"window of more than 128 MiB.* 'deid_png.part01' \| zstd -d --long=31"):
        read(tmp_path)


def test_a_part_that_cannot_be_opened(tmp_path):
    parts = cut(zstd(tar(members())), tmp_path)
    parts[5].unlink()
    archive = Archive(parts)
    with pytest.raises(UserError, match=r"part05' cannot be read: No such file or directory"):
        list(archive.members())
