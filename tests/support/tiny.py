"""Tiny real things to test with: a prepared folder and a language model, made here, without downloads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from medvlp.parse import write_triplets
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, TRIPLETS, index_schema

BOX = ("name", "x1", "y1", "x2", "y2")
VARIANTS = {"quarters": "two of four images train", "halves": "every other image"}
LABELS = ["Cardiomegaly", "Pleural Effusion", "Support Devices"]
WORDS = ["no", "there", "is", "left", "right", "small", "large", "effusion", "pleural", "cardiomegaly", "normal", "."]


def make_prepared(
    root: Path, studies: int = 48, size: int = 40, seed: int = 0, labels: Sequence[str] = (), splits: Sequence[str] = ()
) -> Path:
    """Write a prepared folder in which a bright corner means an effusion, and the report says so.

    The corner is annotated: as the image's only object, and in its mask. Nobody has looked at the first image.
    Of its two split variants, `halves` trains on the even images and tests on the others. With labels, each image has
    one of these instead (of a single one, every second), and with splits all of these variants are `quarters`.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    images = rng.integers(0, 60, (studies, size, size), dtype=np.uint8)
    masks = np.zeros_like(images)
    rows, reports = [], []
    half = size // 2
    # In the picture the patient's right is on the left.
    regions = {
        "right costophrenic angle": (0, half, half, size),
        "left costophrenic angle": (half, half, size, size),
        "cardiac silhouette": (size // 3, 0, 2 * size // 3, size // 3),
    }
    for i in range(studies):
        effusion, heart = rng.random(2) < 0.5
        side = ["left", "right"][i % 2]
        place = regions[f"{side} costophrenic angle"]
        if effusion:
            x1, y1, x2, y2 = place
            images[i, y1:y2, x1:x2] += 150
            masks[i, y1:y2, x1:x2] = 255
        if heart:
            x1, y1, x2, y2 = regions["cardiac silhouette"]
            images[i, y1:y2, x1:x2] += 100
        findings = f"{'there is' if effusion else 'no'} {side} pleural effusion ." if i % 7 else None
        impression = f"{'large' if heart else 'no'} cardiomegaly ." if i % 5 else None
        split = ["train", "train", "validate", "test"][i % 4] if studies > 8 else "train"
        rows.append(
            {
                "row": i,
                "image_id": f"image{i}",
                "study_id": f"study{i}",
                "subject_id": f"subject{i // 2}",
                "view": "PA",
                "split": split,
                "split/quarters": split,
                "split/halves": ["train", "test"][i % 2],
                "path": f"{i}.jpg",
                "height": size,
                "width": size,
                "findings": findings if findings or impression else "normal .",
                "impression": impression,
                **{f"split/{name}": split for name in splits},
                "label/Cardiomegaly": int(heart),
                "label/Pleural Effusion": [0, 1][int(effusion)] if i % 6 else None,
                "label/Support Devices": -1 if i % 9 == 0 else None,
                **{f"label/{name}": int((i // 4 + n) % max(len(labels), 2) == 0) for n, name in enumerate(labels)},
                "regions": [dict(zip(BOX, (name, *box), strict=True)) for name, box in regions.items()],
                "boxes": [dict(zip(BOX, ("effusion", *place), strict=True))] * int(effusion) if i else None,
            }
        )
        reports.append((f"study{i}", {"findings": rows[-1]["findings"], "impression": impression}))
    variants = [*splits, *VARIANTS]
    np.save(root / IMAGES, images)
    np.save(root / MASKS, masks)
    pq.write_table(pa.Table.from_pylist(rows, index_schema(labels or LABELS, variants)), root / INDEX)
    write_triplets([(i, {k: v or "" for k, v in texts.items()}) for i, texts in reports], root / TRIPLETS, workers=1)
    manifest = {
        "format_version": FORMAT_VERSION,
        "options": {"dataset": "tiny", "size": size, "resize": "pad"},
        "splits": {name: split_entry(rows, name) for name in variants},
        "documented": None,
        "sha256": {IMAGES: {"rows": studies, "sha256_of_sha256": hashlib.sha256(images.tobytes()).hexdigest()}},
    }
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root


def refit(root: Path, fit: str) -> None:
    """Have a prepared folder say that its images were no squares, and how they were made squares."""
    table = pq.read_table(root / INDEX)
    wider = pa.array([width + 8 for width in table["width"].to_pylist()], pa.int32())
    pq.write_table(table.set_column(table.column_names.index("width"), "width", wider), root / INDEX)
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["options"]["resize"] = fit
    (root / MANIFEST).write_text(json.dumps(manifest))


def split_entry(rows: list[dict[str, Any]], variant: str) -> dict[str, Any]:
    """Return what a manifest says of a split variant."""
    splits = [row[f"split/{variant}"] for row in rows]
    return {
        "rule": VARIANTS.get(variant, VARIANTS["quarters"]),
        "counts": {name: splits.count(name) for name in ("train", "validate", "test")},
        "documented": {},
        "sha256": hashlib.sha256(
            "".join(sorted(f"{row['image_id']},{split}\n" for row, split in zip(rows, splits, strict=True))).encode()
        ).hexdigest(),
    }


def make_language_model(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """Save a BERT with two layers of width 16 and a vocabulary of a few words and word pieces."""
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    # Weights of the usual 0.02 would give all texts nearly the same embedding.
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def options(data: Path, language: Path | None = None) -> list[str]:
    """Return command-line options that make a run of any config tiny; with a language model, one that pre-trains."""
    chosen = {
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.precision": "32-true",
        "data.root": data,
        "data.crop": 32,
        "data.batch_size": 8,
        "data.num_workers": 0,
    }
    if language:
        image = {"name": "test_resnet.r160_in1k", "pretrained": False, "weights": None}
        chosen |= {
            "model.image_encoder": json.dumps({"class_path": "TimmEncoder", "init_args": image}),
            "model.text_encoder.init_args.name": language,
        }
    return [f"--{name}={value}" for name, value in chosen.items()]
