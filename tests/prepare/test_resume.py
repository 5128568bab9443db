import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest

from medvlp.errors import UserError
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepare.journal import Journal
from medvlp.prepare.workers import in_parallel
from medvlp.prepared import Prepared

pytestmark = pytest.mark.slow


def run(raw, out, **options):
    options = {"size": 32, "workers": 1, **options}
    mimic_cxr(images=raw.images, reports=raw.reports, scene_graphs=raw.graphs, out=out, **options)


def command(raw, out, *options):
    given = {"images": raw.images, "reports": raw.reports, "scene_graphs": raw.graphs, "out": out, "size": 32}
    arguments = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "-m", "medvlp", "prepare", "mimic_cxr", *arguments, *options]


@pytest.fixture
def expected(many, tmp_path, folder_bytes):
    run(many, tmp_path / "whole")
    return folder_bytes(tmp_path / "whole")


def test_workers_do_not_change_bytes(many, tmp_path, expected, folder_bytes):
    run(many, tmp_path / "out", workers=3)
    assert folder_bytes(tmp_path / "out") == expected
    assert Prepared.open(tmp_path / "out").manifest["counts"]["decoded"] == 198


@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_interrupted_after_some_chunks(many, tmp_path, expected, folder_bytes, monkeypatch, chunks):
    append, done = Journal.append, []

    def interrupted(self, result):
        if len(done) == chunks:
            raise KeyboardInterrupt
        done.append(append(self, result))

    monkeypatch.setattr(Journal, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(many, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="unfinished"):
        Prepared.open(tmp_path / "out")
    run(many, tmp_path / "out", workers=2)
    assert folder_bytes(tmp_path / "out") == expected


@pytest.mark.parametrize("function", ["write_index", "write_json", "summarise"])
def test_interrupted_elsewhere(many, tmp_path, expected, folder_bytes, monkeypatch, function):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"medvlp.prepare.pipeline.{function}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(many, tmp_path / "out")
    monkeypatch.undo()
    run(many, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected


def test_interrupted_while_planning(many, tmp_path, expected, folder_bytes, monkeypatch):
    monkeypatch.setattr("medvlp.prepare.plan.has_words", lambda *args: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run(many, tmp_path / "out")
    monkeypatch.undo()
    run(many, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected


def test_killed_in_the_middle(many, tmp_path, expected, folder_bytes, jpeg):
    # A file that takes long to decode gives time to kill.
    slow = jpeg(1400, 1000)
    for seed in range(8):
        (many.root / f"{seed}.jpg").write_bytes(slow)
    run(many, tmp_path / "slow", workers=2)
    with subprocess.Popen(command(many, tmp_path / "out", "--workers=2"), stdout=subprocess.DEVNULL) as process:
        journal = tmp_path / "out/work/journal.jsonl"
        deadline = time.monotonic() + 30
        while not (journal.exists() and journal.stat().st_size):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out/manifest.json").exists()
    done = journal.read_bytes().count(b"\n")
    assert 1 <= done < 7
    # As if the machine had stopped: half a line, and pixels that never reached the disk.
    with journal.open("ab") as file:
        file.write(b'{"first":0,"sha')
    with (tmp_path / "out/images.npy").open("r+b") as file:
        first = json.loads(journal.read_bytes().split(b"\n")[0])["first"]
        file.seek(128 + first * 32 * 32)
        file.write(bytes(5000))
    subprocess.run(command(many, tmp_path / "out", "--workers=2"), check=True, stdout=subprocess.DEVNULL)
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "slow")


def test_workers_end_with_their_parent():
    code = "import time; from medvlp.prepare.workers import in_parallel; list(in_parallel(time.sleep, [60] * 4, 2))"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 20
        while len(children(process.pid)) < 3:  # Two workers and multiprocessing's resource tracker.
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = children(process.pid)
        time.sleep(0.5)
        process.kill()
    deadline = time.monotonic() + 10
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(entry))
    return found


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_dead_worker_is_an_error_not_a_hang():
    with pytest.raises(UserError, match=r"worker process died.*Run the same command"):
        list(in_parallel(os._exit, [1] * 5, 2))


def test_inputs_are_taken_as_needed():
    taken = []

    def inputs():
        for number in range(20):
            taken.append(number)
            yield number

    outputs = in_parallel(abs, inputs(), 2)
    next(outputs)
    assert len(taken) <= 5
    assert len(list(outputs)) == 19


def test_finished_folder_is_left_alone(many, tmp_path, expected, folder_bytes, capsys):
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").iterdir()}
    shutil.rmtree(many.images / "files/p10")
    run(many, tmp_path / "whole")
    assert "is complete: 198 images" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_other_options_in_the_same_folder(many, tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr("medvlp.prepare.pipeline.write_index", lambda *args: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                run(many, tmp_path / "out")
        else:
            run(many, tmp_path / "out")
    with pytest.raises(UserError, match=r"other options: min_words is 3 there and 5 now; size is 32 there and 16 now"):
        run(many, tmp_path / "out", size=16, min_words=5)


def test_two_at_once(many, tmp_path, monkeypatch):
    def second(*args):
        run(many, tmp_path / "out")

    monkeypatch.setattr("medvlp.prepare.pipeline.write_plan", second)
    with pytest.raises(UserError, match="being written by another process"):
        run(many, tmp_path / "out")


def test_too_little_space(many, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1234, 1234))
    with pytest.raises(UserError, match=r"needs 1,\d\d\d,\d\d\d more bytes for 200 images of 32x32, but only 1,234"):
        run(many, tmp_path / "out")


def test_disk_full(many, tmp_path, expected, folder_bytes, monkeypatch):
    pwrite, calls = os.pwrite, []

    def full(*args):
        calls.append(args)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(*args)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"cannot be written: No space left on device.*goes on where"):
        run(many, tmp_path / "out")
    monkeypatch.undo()
    run(many, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected


def test_file_size_limit(many, tmp_path):
    done = subprocess.run(
        command(many, tmp_path / "out", "--workers=2"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)),
        # Coverage would write a file beyond the limit.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written: File too large" in done.stderr


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_read_only_output(many, tmp_path, monkeypatch, error):
    def refuse(*args, **options):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(UserError, match=f"--out=.*cannot be written: {os.strerror(error)}"):
        run(many, tmp_path / "out")


def test_output_below_a_file(many, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        run(many, tmp_path / "file" / "out")


MEASURE = """
import resource, sys
from pathlib import Path
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
raw, out = map(Path, sys.argv[1:])
mimic_cxr(raw / "jpg", raw / "reports", out, regions="none", size=128, workers=2)
own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own, workers)
"""


def test_memory_does_not_grow_with_images(empty_mimic, tmp_path, jpeg):
    file = empty_mimic.root / "x.jpg"
    file.write_bytes(jpeg(400, 400))
    peaks = []
    start = 0
    for end in (1200, 3600):
        for number in range(start, end):
            subject, study = 10000000 + number // 20, 50000000 + number
            empty_mimic.study(subject, study, {f"image{number}": "PA"}, data=b"")
            path = empty_mimic.image_path(subject, study, f"image{number}")
            path.unlink()
            os.link(file, path)
        start = end
        empty_mimic.tables()
        arguments = [sys.executable, "-c", MEASURE, empty_mimic.root, tmp_path / str(end)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        peaks.append([int(word) for word in done.stdout.split()[-2:]])
    (own, workers), (own_of_more, workers_of_more) = peaks
    # 2,400 more images are 39 MB of pixels.
    assert own_of_more - own < 8_000
    assert workers_of_more - workers < 8_000
