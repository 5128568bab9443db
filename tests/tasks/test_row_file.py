"""Image tokens go to a file that processes share, and come back in the order of the samples."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from medvlp.errors import UserError
from medvlp.tasks.embeddings import EmbeddingCollector
from medvlp.tasks.row_file import RowFile
from tests.support.processes import WORLD, in_processes


def tokens(count):
    return torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(0)).half()


def test_rows_come_back_in_the_order_of_the_samples(tmp_path):
    rows, file = tokens(7), RowFile(tmp_path)
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    for part in order.split(3):
        file.write(part, rows[part])
    assert torch.equal(file.read(torch.arange(7)), rows)
    assert not list(tmp_path.iterdir())


def test_rows_that_are_left_out(tmp_path):
    rows, file = tokens(7), RowFile(tmp_path)
    chosen = torch.tensor([1, 2, 5])
    file.write(chosen, rows[chosen])
    assert torch.equal(file.read(chosen), rows[chosen])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="default_root_dir"):
        RowFile(tmp_path / "file")


def test_the_collector_keeps_vectors_in_memory_and_image_tokens_on_disk(tmp_path):
    collector = EmbeddingCollector()
    collector.folder = tmp_path
    rows = tokens(5)
    for part in torch.tensor([3, 1, 4, 0, 2]).split(2):
        words = torch.ones(len(part), 1 + int(part[0]), 4)
        collector.add(part, {"image/a/report": rows[part], "text/a/report": words, "label": part})
        assert not list(tmp_path.iterdir())  # an interrupted run leaves nothing
    got = collector.collect()
    assert torch.equal(got["image/a/report"], rows)
    assert torch.equal(got["label"], torch.arange(5))
    # The batches had 4, 5 and 3 words a text; the shorter texts are padded with zeros.
    assert got["text/a/report"].any(2).sum(1).tolist() == [5, 4, 3, 4, 5]
    assert not list(tmp_path.iterdir())


def share(number: int, folder: Path) -> None:
    collector = EmbeddingCollector()
    collector.folder = folder
    rows = tokens(6)
    for part in torch.arange(number, 6, WORLD).split(2):
        words = torch.ones(len(part), 1 + number, 4)
        collector.add(part, {"image/a/report": rows[part], "text/a/report": words, "label": part})
    got = collector.collect()
    assert torch.equal(got["image/a/report"], rows)
    assert torch.equal(got["label"], torch.arange(6))
    assert got["text/a/report"].any(2).sum(1).tolist() == [1, 2] * 3
    dist.barrier()


@pytest.mark.slow
def test_two_processes_read_the_rows_of_both(tmp_path):
    in_processes(share, tmp_path)
    assert not list(tmp_path.iterdir())
