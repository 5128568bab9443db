"""Search for the images nearest to an embedding, in a prepared folder or a file of `medvlp predict`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from medvlp.data.features import FeatureStore
from medvlp.data.transforms import EvaluationTransform
from medvlp.errors import NotFoundError, UserError
from medvlp.inference.model import Model
from medvlp.models.pretrained import digest
from medvlp.models.published import fingerprint, names_published
from medvlp.objectives.similarity import joined, one_vector
from medvlp.prepared import IMAGES, INDEX, LABEL_PREFIX, MANIFEST, WORK, Prepared
from medvlp.tasks.checkpoints import CONFIG, WEIGHTS

NO_BOXES = np.zeros((0, 4), np.float32)
# Number of vectors that are compared at once: 100 MB in single precision at width 768.
BLOCK = 1 << 15
# Number of images of 37 x 37 tokens, likewise 128 MB in half precision.
TOKEN_BLOCK = 64


class Index(ABC):
    """Base of the collections of images to search in.

    Attributes:
        images: One row for each of N images: `image_id`, `study_id`, `split`, `path`, and labels if there are any.
    """

    images: pa.Table

    @abstractmethod
    def embeddings(self, model: Model) -> Iterator[list[Tensor]]:
        """Yield the images in their order, in blocks.

        Yields:
            Their vectors (n, D), alone in a list; or, if the model has none (`Model.has_vectors`), what
            `Model.embed_images` returns for n images, in the order of the spaces.

        Raises:
            UserError: If the embeddings cannot be computed or stored.
        """

    def vectors(self, model: Model) -> Iterator[Tensor]:
        """Yield `Model.embedding` of the images in their order, in blocks (n, D).

        Raises:
            UserError: If the embeddings cannot be computed or stored.
        """
        for block in self.embeddings(model):
            yield block[0] if model.has_vectors else joined([one_vector(rows.float()) for rows in block])

    @abstractmethod
    def reports(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return Findings and Impression of the images at these positions; a missing section is empty.

        Raises:
            UserError: If the index has no reports.
        """

    def similar_to_image(self, model: Model, image: Tensor) -> npt.NDArray[np.float32]:
        """Return the similarity (N,) of the images with an image, uint8 (H, W), the cosine of their vectors.

        Raises:
            UserError: If the embeddings of the images cannot be computed or stored.
        """
        query = model.embedding(image[None])[0]
        return np.concatenate([(rows.float() @ query).numpy() for rows in self.vectors(model)])

    def similar_to_text(self, model: Model, text: str) -> npt.NDArray[np.float32]:
        """Return the similarity (N,) of the images with a text.

        Raises:
            UserError: If the embeddings of the images cannot be computed or stored.
        """
        # Exhaustive search: with the 377,110 images of MIMIC-CXR it takes about a second, less than loading the model.
        # An index library would be one more dependency, approximate, and would need a new index for each model.
        if model.has_vectors:
            query = model.text_embedding([text])[0]
            return np.concatenate([(block[0].float() @ query).numpy() for block in self.embeddings(model)])
        texts = model.embed_texts([text])
        blocks = (dict(zip(model.spaces, block, strict=True)) for block in self.embeddings(model))
        return np.concatenate([model.similarity(images, texts)[:, 0].float().numpy() for images in blocks])


class PreparedIndex(Index):
    """The images of a prepared folder.

    The first search computes the embeddings and stores them in the folder, for these weights and images. After an
    interruption, the next search continues the computation.

    Args:
        root: The folder.
        weights: Checkpoint or exported folder of the model.
        splits: Splits to search in; by default all images.

    Raises:
        UserError: If this is no prepared folder, or one of the splits has no image.
    """

    def __init__(self, root: Path, weights: Path, splits: Sequence[str] = ()) -> None:
        self.prepared = Prepared.open(root)
        files = [weights / CONFIG, weights / WEIGHTS] if weights.is_dir() else [weights]
        self._weights = [fingerprint(str(file)) for file in files]
        self._published = names_published(str(weights))
        columns = ["row", "image_id", "study_id", "split", "path", *(LABEL_PREFIX + x for x in self.prepared.labels)]
        self.images = pq.read_table(self.prepared.root / INDEX, columns=columns)
        names = sorted(filter(None, self.images["split"].unique().to_pylist()))
        if unknown := [split for split in splits if split not in names]:
            raise UserError(f"no image of '{root}' is in {', '.join(unknown)}; its splits are {', '.join(names)}.")
        if splits:
            self.images = self.images.filter(pc.is_in(self.images["split"], pa.array(splits)))

    def embeddings(self, model: Model) -> Iterator[list[Tensor]]:
        """Yield the embeddings; see `Index`."""
        preprocessing, prepared = model.preprocessing, self.prepared
        preprocessing.check(prepared)
        transform = EvaluationTransform(preprocessing.crop, preprocessing.side)

        def encode(chunk: npt.NDArray[np.int64]) -> list[Tensor]:
            views = np.stack([transform(prepared.images[row], NO_BOXES, 0).image for row in chunk])
            seen = torch.from_numpy(views)
            return [model.embedding(seen)] if model.has_vectors else list(model.embed_images(seen).values())

        rows = self.images["row"].to_numpy()
        settings = {"embedding": self._weights, "images": prepared.manifest["sha256"][IMAGES]}
        if self._published:
            # Beside the weights, a config that may change decides how images are seen.
            settings["seen"] = [digest(model.task.image_encoder), *asdict(preprocessing).values()]
        advice = "search in fewer images, with --splits"
        store = FeatureStore(prepared.root, settings, len(prepared.images), advice)
        try:
            store.fill(rows, encode)
        except OSError as error:
            raise UserError(f"embeddings cannot be written to '{store.folder}': {error.strerror or error}.") from error
        block = BLOCK if model.has_vectors else TOKEN_BLOCK
        for start in range(0, len(rows), block):
            yield store.read(rows[start : start + block])

    def reports(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return the reports; see `Index`."""
        rows = self.images["row"].take(pa.array(positions)).combine_chunks()
        condition = pc.is_in(pc.field("row"), rows)
        table = pq.read_table(self.prepared.root / INDEX, columns=["row", "findings", "impression"], filters=condition)
        reports = {entry["row"]: (entry["findings"] or "", entry["impression"] or "") for entry in table.to_pylist()}
        return [reports[row] for row in rows.to_pylist()]


class PredictedIndex(Index):
    """The images in a parquet file of `medvlp predict --embeddings true`; each image is its own study.

    Args:
        path: The file.
        weights: Checkpoint or exported folder of the model.

    Raises:
        UserError: If it is no parquet file, or has no embeddings, or embeddings of another model.
    """

    def __init__(self, path: Path, weights: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"'{path}' is no parquet file: {error}") from error
        if not {"path", "status", "embedding"} <= set(self._file.schema_arrow.names):
            raise UserError(f"'{path}' holds no embeddings: write them with 'medvlp predict --embeddings true'.")
        made_by = (self._file.schema_arrow.metadata or {}).get(b"weights_sha256", b"").decode()
        if made_by != fingerprint(str(weights)):
            raise UserError(
                f"the embeddings in '{path}' were not made with --weights '{weights}': predict them anew, or pass the "
                "weights that they were made with."
            )
        self._path = path
        table = self._file.read(["path", "status"])
        paths = table.filter(pc.equal(table["status"], "ok"))["path"]
        empty = pa.array([""] * len(paths))
        self.images = pa.table({"image_id": paths, "study_id": paths, "split": empty, "path": paths})

    def embeddings(self, model: Model) -> Iterator[list[Tensor]]:
        """Yield the embeddings; see `Index`.

        Raises:
            UserError: If the model compares texts with other things than one vector.
        """
        if not model.has_vectors:
            raise UserError(
                f"'{self._path}' holds one vector an image, and this model compares texts with more than that: search "
                "for an image, or in a prepared folder."
            )
        yield from ([rows] for rows in self.vectors(model))

    def vectors(self, model: Model) -> Iterator[Tensor]:
        """Yield the embeddings; see `Index`."""
        for batch in self._file.iter_batches(BLOCK, columns=["status", "embedding"]):
            column = batch.filter(pc.equal(batch["status"], "ok"))["embedding"]
            if len(column):
                yield torch.from_numpy(column.flatten().to_numpy().reshape(len(column), -1).copy())

    def reports(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Refuse: the file holds no reports; see `Index`."""
        raise UserError(f"--show_reports: there are none in '{self._path}', only in a prepared folder.")


def open_index(path: Path, weights: Path, splits: Sequence[str]) -> Index:
    """Open a prepared folder, or a file of `medvlp predict --embeddings true`.

    Raises:
        UserError: If the path is neither, or holds no image of the splits.
    """
    if path.is_file():
        if splits:
            raise UserError(f"--splits {','.join(splits)}: the images in '{path}' are in none.")
        index: Index = PredictedIndex(path, weights)
    elif path.is_dir() and not any((path / name).exists() for name in (MANIFEST, IMAGES, WORK)):
        raise NotFoundError(
            f"'{path}' is no prepared folder. Make one with 'medvlp prepare', or search in image files with 'medvlp "
            f"predict {path} --embeddings true --out FILE.parquet', and then in FILE.parquet."
        )
    else:
        index = PreparedIndex(path, weights, splits)
    if not len(index.images):
        raise UserError(f"there is no image in '{path}'.")
    return index


def nearest(score: npt.NDArray[np.float32], study_id: Sequence[str], top: int) -> list[int]:
    """Return the position of the best image of each of the `top` best studies, best first; ties keep their order."""
    best: dict[str, int] = {}
    for position in np.argsort(-score, kind="stable").tolist():
        best.setdefault(study_id[position], position)
        if len(best) == top:
            break
    return list(best.values())
