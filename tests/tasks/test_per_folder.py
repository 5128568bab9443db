"""What a validation of several folders counts."""

import torch

from medvlp.tasks.per_folder import Means, without_lacking
from medvlp.types import NOT_MENTIONED, UNCERTAIN


class Folders:
    """Two folders; the second lacks the first of two labels."""

    has_label = torch.tensor([[True, True], [False, True]]).numpy()

    def __len__(self):
        return len(self.has_label)


def test_labels_that_a_folder_lacks_are_uncertain_and_columns_after_them_stay():
    label = torch.tensor([[1, 0, 1], [NOT_MENTIONED, 1, 0]], dtype=torch.int8)
    marked = without_lacking(label, torch.tensor([0, 1]), Folders())
    assert marked.tolist() == [[1, 0, 1], [UNCERTAIN, 1, 0]]
    assert without_lacking(label[:, :2], torch.tensor([1, 1]), Folders())[:, 0].tolist() == [UNCERTAIN] * 2


def test_means_weigh_batches_by_their_images_in_single_precision():
    means = Means()
    for _ in range(300):
        means.add({"loss": torch.tensor(1.0, dtype=torch.bfloat16)}, 7)
    means.add({"loss": torch.tensor(4.0, dtype=torch.bfloat16)}, 1050)
    assert means.collect() == {"loss": torch.tensor(2.0)}
    assert means.collect() == {}
