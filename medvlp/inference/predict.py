"""`medvlp predict`: zero-shot scores, tags and embeddings for any number of image files."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from medvlp.config.options import split_commas
from medvlp.errors import UserError
from medvlp.inference.predictions import FORMATS, Predictions
from medvlp.inference.reading import PART, Reader, batched, find_files, read_all, shown
from medvlp.prepare.progress import progress

if TYPE_CHECKING:
    from medvlp.inference.questions import Questions

WITH_EMBEDDINGS = (".parquet", ".jsonl")
# Number of reasons, and of flags, that the summary prints: the most frequent ones.
PRINTED = 10


def predict(
    inputs: list[str],
    *,
    weights: Path,
    out: Path,
    findings: str = "",
    protocol: str = "medvlp",
    tags: bool | None = None,
    embeddings: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
    device: str | None = None,
    trust: str = "",
    bench: bool = False,
) -> None:
    """Score findings in image files. Not for clinical use.

    The output has one row per file, in the order of the inputs. Its columns are `path`; `status`, ok or skipped;
    `reason`, why the file was skipped; `flags`, differences from a frontal chest radiograph; `score/FINDING`, higher
    for more likely findings; `tag/TAG`, the probability from the tag decoder; `embedding`. After an interruption, the
    same command continues.

    Args:
        inputs: Files (JPEG, PNG, DICOM ...), folders with all files below them, or patterns in quotes: '*.dcm'.
        weights: A checkpoint of 'medvlp fit', a folder of 'medvlp export', or a published pair of encoders, such as
            biomedclip, biovil-t, medsiglip, chexzero:FILE, open_clip:... or hf:...
        out: Output file: FILE.csv, FILE.parquet, FILE.json or FILE.jsonl. It must not exist yet.
        findings: Findings to score, separated by commas; by default the labels of the protocol, or CheXpert's 14.
        protocol: Scoring protocol: the name of a protocol of medvlp, or a protocol file.
        tags: Write the probabilities of tags; by default if the model has a tag decoder.
        embeddings: Write the embeddings of images, to parquet or jsonl.
        batch_size: Number of files that are encoded at once.
        workers: Number of processes that decode files; by default one per CPU core.
        device: Device to encode on; by default a GPU if there is one.
        trust: Packages other than medvlp whose classes the weights may name, separated by commas.
        bench: Time also the image encoder alone, and print the share of its speed that the command reaches.

    Raises:
        UserError: If an input does not exist, an option is wrong, or the output cannot be written.
    """
    check_output(out, embeddings)
    if batch_size < 1 or (workers is not None and workers < 1):
        raise UserError("--batch_size and --workers must be at least 1.")
    total = sum(1 for _ in files(inputs, partial_of(out)))
    if not total:
        raise UserError(f"there is no file in {', '.join(inputs)}.")

    # Imported late: torch takes seconds to import, and the checks above need none of it.
    from medvlp.inference.model import Model
    from medvlp.inference.questions import Questions

    model = Model.load(weights, device, split_commas(trust))
    questions = Questions(model, split_commas(findings), protocol, tags, embeddings)
    processes = min(workers or os.cpu_count() or 1, -(-total // PART))
    rate = predict_files(out, inputs, total, questions, weights, batch_size, processes)
    print(f"{rate:,.1f} files per second. Predictions are in {out}")
    if bench:
        alone = questions.encoder_rate(batch_size)
        share = f"{rate / alone:.0%}"
        print(f"The image encoder alone encodes {alone:,.1f} images per second; the command reaches {share} of that.")


def predict_files(
    out: Path,
    inputs: Sequence[str],
    total: int,
    questions: Questions,
    weights: Path,
    batch_size: int,
    processes: int,
) -> float:
    """Predict all files, print the summary, and return the number of files per second.

    Args:
        out: Output file.
        inputs: Files, folders or patterns.
        total: Number of the files.
        questions: Questions to the model.
        weights: Checkpoint or folder of the model.
        batch_size: Number of files that are encoded at once.
        processes: Number of processes that decode files.

    Raises:
        UserError: If the predictions cannot be written.
    """
    preprocessing = questions.model.preprocessing
    reader = Reader(preprocessing.size, preprocessing.fit)
    start = time.monotonic()
    try:
        predictions, paths = resume(partial_of(out), questions, weights, inputs)
        before = predictions.rows
        readings = read_all(paths, reader, processes)
        with closing(readings), progress("Predicting", total, before) as advance:
            for batch in batched(readings, batch_size):
                predictions.append(questions.answer(batch))
                advance(len(batch))
        rate = (predictions.rows - before) / (time.monotonic() - start)
        print("\n".join(summary(predictions.batches())))
        predictions.finish(out, origin(weights, questions))
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.")
        raise
    except OSError as error:
        raise UserError(f"predictions cannot be written beside '{out}': {error.strerror or error}.") from error
    return rate


def partial_of(out: Path) -> Path:
    """Return the file of unfinished predictions beside an output file."""
    return out.with_name(f"{out.name}.partial")


def check_output(out: Path, embeddings: bool) -> None:
    """Refuse an output file that cannot be written.

    Args:
        out: Output file.
        embeddings: Whether it must hold embeddings.

    Raises:
        UserError: If it has the wrong suffix, exists, or has no folder.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out '{out}' must end in {', '.join(FORMATS)}.")
    if embeddings and out.suffix not in WITH_EMBEDDINGS:
        raise UserError(f"--embeddings true needs an --out that ends in {' or '.join(WITH_EMBEDDINGS)}, not '{out}'.")
    if out.exists():
        raise UserError(f"--out '{out}' exists already: remove it, or give another name.")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out '{out}': there is no such folder.")


def resume(
    partial: Path, questions: Questions, weights: Path, inputs: Sequence[str]
) -> tuple[Predictions, Iterator[str]]:
    """Open the predictions of an interrupted run, or begin new ones; return them and the paths to predict.

    Args:
        partial: File of unfinished predictions; it need not exist.
        questions: Questions to the model.
        weights: Checkpoint or folder of the model.
        inputs: Files, folders or patterns.
    """
    begun = partial.is_file()
    predictions = Predictions(partial, questions.schema, [identity(weights), questions.protocol.identity])
    paths = files(inputs, partial)
    if not goes_on(predictions, paths):
        predictions.clear()
        paths = files(inputs, partial)
    if begun and not predictions.rows:
        print(f"{partial} was made with other files, weights or options: starting over.")
    return predictions, paths


def files(inputs: Sequence[str], partial: Path) -> Iterator[str]:
    """Yield the files that the inputs name, except the partial output file."""
    target = os.path.realpath(partial)
    return (path for path in find_files(inputs) if not path.endswith(partial.name) or os.path.realpath(path) != target)


def identity(weights: Path) -> list[tuple[str, int, int]]:
    """Return the identity of weights: path, size and modification time of each of their files."""
    from medvlp.models.published import names_published, published_files

    if names_published(str(weights)):
        paths = [Path(path) for path in published_files(str(weights))]
    else:
        paths = [weights] if weights.is_file() else sorted(path for path in weights.rglob("*") if path.is_file())
    return [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def origin(weights: Path, questions: Questions) -> dict[str, str]:
    """Return the metadata of the predictions: the hash of the weights and the protocol."""
    from medvlp.models.published import fingerprint

    return {
        "weights_sha256": fingerprint(str(weights)) or "",
        "protocol": json.dumps(questions.protocol.identity),
    }


def goes_on(predictions: Predictions, paths: Iterator[str]) -> bool:
    """Consume as many paths as there are predictions, and return whether the predictions belong to these paths."""
    for batch in predictions.batches():
        if batch["path"].to_pylist() != [shown(path) for path in islice(paths, batch.num_rows)]:
            return False
    return True


def summary(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Yield the lines of a summary: numbers of files by status, reason and flag."""
    status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for batch in batches:
        status.update(batch["status"].to_pylist())
        reasons.update(filter(None, batch["reason"].to_pylist()))
        flags.update(flag for text in batch["flags"].to_pylist() for flag in text.split())
    yield f"{status.total():,} files: {status['ok']:,} predicted, {status['skipped']:,} skipped."
    for title, counts in (("Skipped", reasons), ("Flagged", flags)):
        if counts:
            yield f"{title}:"
        for name, count in counts.most_common(PRINTED):
            yield f"  {count:>9,}  {name}"
            del counts[name]
        if counts:
            yield f"  {counts.total():>9,}  others"
