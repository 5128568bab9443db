"""The second view of an image: another image of the same study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp.data.roots import Roots
from medvlp.errors import UserError


class StudyImages:
    """The images of each study, among those that a run trains on.

    Args:
        study_id: Ids of the studies of the N images.

    Attributes:
        images: Number of images N.
        paired: Number of images whose study has another one.
    """

    def __init__(self, study_id: Sequence[str]) -> None:
        number = {study: n for n, study in enumerate(dict.fromkeys(study_id))}
        self.images = len(study_id)
        self._study = np.array([number[study] for study in study_id], np.int64)
        self._images = np.argsort(self._study, kind="stable")
        self._offsets = np.searchsorted(self._study[self._images], np.arange(len(number) + 1))
        self.paired = int((np.diff(self._offsets)[self._study] > 1).sum())

    def draw(self, i: int, views: int, seed: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the image of each view: image i, other images of its study, each once, and image i again.

        Args:
            i: The image.
            views: Number of views V.
            seed: The draw is a function of these numbers.
        """
        study = self._study[i]
        others = self._images[self._offsets[study] : self._offsets[study + 1]]
        drawn = np.random.default_rng(seed).permutation(others[others != i])[: views - 1]
        return np.concatenate([[i], drawn, np.full(views - 1 - len(drawn), i)])


def check_paired(studies: Sequence[StudyImages], roots: Roots) -> None:
    """Report how many training images have another one of their study.

    Args:
        studies: The studies of each folder.
        roots: The folders.

    Raises:
        UserError: If none has.
    """
    paired = sum(one.paired for one in studies)
    if not paired:
        raise UserError(
            f"view_source='study', but no study of the training images of root='{roots}' has two images: "
            "prepare it with all --views, such as FRONTAL,LATERAL of Open-I, or pass view_source=image."
        )
    rank_zero_info(f"{paired:,} of {sum(one.images for one in studies):,} images have another one of their study.")
