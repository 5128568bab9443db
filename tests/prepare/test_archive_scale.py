"""The stream of a large archive: memory, time and interruptions, each in processes of its own.

MEDVLP_ARCHIVE_IMAGES=5000 measures at that number of images; the default is small.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from medvlp.prepared import Prepared
from tests.support.archives import write_large

pytestmark = pytest.mark.slow

IMAGES = int(os.environ.get("MEDVLP_ARCHIVE_IMAGES", "240"))
SIDE = int(os.environ.get("MEDVLP_ARCHIVE_SIDE", "256"))
# Prepares a folder, and prints its greatest memory in MB, and the processor time of its second step and of decoding.
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from medvlp.prepare import pipeline
from medvlp.prepare.chunks import Decoder
from medvlp.prepare.datasets.rexgradient import rexgradient

spent = {"decoding": 0.0, "step": 0.0}

def timed(name, function):
    def run(*args):
        start = time.process_time()
        try:
            return function(*args)
        finally:
            spent[name] += time.process_time() - start
    return run

Decoder.decode = timed("decoding", Decoder.decode)
pipeline.decode_images = timed("step", pipeline.decode_images)
rexgradient(Path(sys.argv[1]), Path(sys.argv[2]), size=128, workers=int(sys.argv[3]))
peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
processes = [sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({**spent, "peak": peak, "processes": processes}))
"""


def measure(root, out, workers=1):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(root), str(out), str(workers)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    write_large(root, IMAGES, SIDE)
    return root


@pytest.fixture(scope="module")
def whole(large):
    return measure(large / "stream", large / "out")


def test_memory_does_not_grow_with_the_archive(large, whole, tmp_path):
    write_large(tmp_path, IMAGES // 5, SIDE)
    small = measure(tmp_path / "stream", tmp_path / "out")
    print({"images": (IMAGES // 5, IMAGES), "peak in MB": (small["peak"][0], whole["peak"][0])})
    # A few bytes for each row; the tables of one group of the plan.
    assert whole["peak"][0] < small["peak"][0] + 15 + IMAGES / 1000


def test_the_processor_decodes(large, whole):
    ratio = whole["step"] / whole["decoding"]
    each = 1000 * whole["decoding"] / IMAGES
    print({"images": IMAGES, "decoding in ms": each, "ratio": ratio})
    assert ratio < 1.2


def test_the_tree_gives_the_same_bytes(large, whole, folder_bytes):
    tree = measure(large / "tree", large / "out_tree", workers=2)
    print({"tree": tree, "stream": whole})
    assert folder_bytes(large / "out_tree") == folder_bytes(large / "out")


def test_workers(large, whole, folder_bytes):
    two = measure(large / "stream", large / "out2", workers=2)
    print({"two workers": two})
    assert folder_bytes(large / "out2") == folder_bytes(large / "out")
    assert max(two["peak"]) < whole["peak"][0] + 60


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_twice(large, whole, tmp_path, folder_bytes, workers):
    out = tmp_path / "out"
    options = [f"--root={large / 'stream'}", f"--out={out}", "--size=128", f"--workers={workers}"]
    command = [sys.executable, "-m", "medvlp", "prepare", "rexgradient", *options]
    journal = out / "work/arrived.jsonl"
    # A test that runs in the background of a shell ignores the signal, and so would its processes.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    for share in (0.3, 0.6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **listening) as process:
            deadline = time.monotonic() + 3600
            while not journal.exists() or journal.read_bytes().count(b"\n") < share * IMAGES:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
        assert process.returncode
        assert journal.read_bytes().count(b"\n") < IMAGES
        assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert folder_bytes(out) == folder_bytes(large / "out")
    assert Prepared.open(out).manifest["counts"]["decoded"] == IMAGES
