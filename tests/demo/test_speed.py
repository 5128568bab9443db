"""`medvlp bench`: what its contestants compute, and the ratios that it prints."""

import re

import pytest
import torch

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.demo import speed
from medvlp.demo.pair_speed import pair_rows, write_images
from medvlp.models import TimmEncoder
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


@pytest.fixture
def batch(place):
    return next(iter(CXRDataModule(place / "data", 4, 32, num_workers=0).train_dataloader()))


@pytest.fixture
def images(monkeypatch):
    """Number of images in each pass of an encoder."""
    passes = []
    forward = TimmEncoder.forward

    def counted(self, batch, *args, **kwargs):
        passes.append(len(batch))
        return forward(self, batch, *args, **kwargs)

    monkeypatch.setattr(TimmEncoder, "forward", counted)
    return passes


def test_the_floor_trains_on_both_views(batch, monkeypatch):
    encoders = []
    monkeypatch.setattr(
        speed, "TimmEncoder", lambda **kwargs: encoders.append(TimmEncoder("resnet18", **kwargs)) or encoders[-1]
    )
    step = speed.bare_step(batch)
    before = [p.detach().clone() for p in encoders[0].backbone.parameters()]
    sizes = []
    encoders[0].backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    step()
    assert sizes == [8]
    after = list(encoders[0].backbone.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_the_official_design_encodes_every_view_twice(place, batch, images, monkeypatch):
    monkeypatch.setattr(speed, "TimmEncoder", lambda **kwargs: TimmEncoder("resnet18", **kwargs))
    speed.official_step(place / "bert", batch)()
    assert images == [4, 4, 4, 4]


def test_cpu_time_of_ended_children_counts():
    import subprocess
    import sys

    before = speed.cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert 0.05 < speed.cpu_seconds() - before < 60


def test_patches_on_disk_are_compared_in_the_memory_of_a_few_blocks(tmp_path):
    times, memory = pair_rows(tmp_path, 60, 1)
    assert (tmp_path / "patches").stat().st_size == 60 * 37 * 37 * 768 * 2
    assert memory < 350e6 < 60 * 37 * 37 * 768 * 4 * 2
    assert {len(each) for each in times.values()} == {1}
    rows = write_images(tmp_path / "again", 11, torch.Generator().manual_seed(0))
    assert torch.equal(rows[10], rows[2])
    torch.testing.assert_close(rows[3].float().norm(dim=1), torch.ones(37 * 37), rtol=1e-2, atol=1e-2)


def test_bench_prints_ratios_to_each_floor(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main(
        [
            "bench",
            "--batch_size",
            "2",
            "--crop",
            "64",
            "--rounds",
            "1",
            "--studies",
            "8",
            "--workers",
            "1",
            "--images",
            "16",
        ]
    )
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^│ (.+?) +│ +[\d.]+ m?s │ +([\d.]+) │", printed, re.MULTILINE))
    floors = [name for name, ratio in rows.items() if ratio == "1.00"]
    assert floors[:1] == ["bare decode + resize, CPU an image"]
    assert "bare ResNet-50 on both views" in floors
    assert "one pass of a frozen ResNet-50" in floors
    assert len(rows) == 11
    assert "matrix product of patches and texts, a million pairs" in floors
    assert re.search(r"Similarities of 16 images, 0.0 GB on disk, took \d+ MB of memory", printed)
    assert float(rows["nine linear probes, features once"]) < float(rows["nine linear probes, encoding in each epoch"])
