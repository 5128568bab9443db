"""The augmentations of the papers as their own libraries do them, to compare those of `TrainTransform` with.

    python -m tests.data.references --out FOLDER [--images FOLDER]

prints the figures of each augmentation beside the reference's, and draws a sheet of views for each recipe of
experiments/: per image one row of medvlp's views, and below it one of the reference's.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from medvlp.config.experiments import EXPERIMENTS
from medvlp.data.transforms import BLUR, JITTER, Augmentation, TrainTransform
from medvlp.trainer.composition import compose

RADIOGRAPHS = Path(__file__).parents[1] / "prepare" / "radiographs"
SIDE, CROP = 256, 224
OFF = {f.name: 0.0 for f in fields(Augmentation) if f.name in ("horizontal_flip", "vertical_flip", "rotation")}
OFF |= {"perspective": 0.0, "autocontrast": 0.0}
NO_BOXES = np.zeros((0, 4), np.float32)
View = Callable[[np.ndarray], np.ndarray]


def affine(image: Image.Image, scale: float, rotation: float) -> Image.Image:
    """albumentations 1.x's ShiftScaleRotate without shift, as MGCA calls it; that of 2.x scales each axis alone."""
    side = image.size[0]
    matrix = cv2.getRotationMatrix2D(
        (side / 2, side / 2), random.uniform(-rotation, rotation), random.uniform(1 - scale, 1 + scale)
    )
    return Image.fromarray(cv2.warpAffine(np.asarray(image), matrix, (side, side)))


def with_probability(p: float, step: Callable[[Image.Image], Image.Image]) -> Callable[[Image.Image], Image.Image]:
    return lambda image: step(image) if random.random() < p else image


def reference(augmentation: Augmentation) -> View:
    """Return the reference's view of a stored image, drawn anew at each call from `random` and torch.

    Sources: IMITATE's RandomCrop, RandomHorizontalFlip, RandomVerticalFlip, RandomRotation (nearest pixel),
    RandomPerspective (bicubic) and RandomAutocontrast of torchvision; MGCA's ShiftScaleRotate; MoCo v2's ColorJitter,
    and its GaussianBlur of Pillow.
    """
    a = augmentation
    steps = [
        transforms.RandomCrop(CROP),
        transforms.RandomHorizontalFlip(a.horizontal_flip),
        transforms.RandomVerticalFlip(a.vertical_flip),
        transforms.RandomRotation(a.rotation),
        transforms.RandomPerspective(a.distortion, a.perspective, InterpolationMode.BICUBIC),
        with_probability(a.affine, lambda image: affine(image, a.affine_scale, a.affine_rotation)),
        transforms.RandomAutocontrast(a.autocontrast),
        with_probability(a.jitter, transforms.ColorJitter(JITTER, JITTER, JITTER, 0.1)),
        with_probability(a.blur, lambda image: image.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR)))),
    ]
    pipeline = transforms.Compose(steps)
    return lambda image: np.asarray(pipeline(Image.fromarray(image).convert("RGB")))[..., 0]


def ours(augmentation: Augmentation) -> View:
    """Return medvlp's view, with another seed at each call."""
    transform = TrainTransform(CROP, augmentation)
    return lambda image: transform(image, NO_BOXES, random.getrandbits(32)).image


def seed(number: int) -> None:
    """Make the next views the same as the last time."""
    random.seed(number)
    torch.manual_seed(number)


def radiographs(folder: Path = RADIOGRAPHS, most: int = 6) -> list[np.ndarray]:
    """Read real radiographs as squares (256, 256)."""
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png") and "_lungs" not in p.name)[:most]
    return [np.asarray(Image.open(p).convert("L").resize((SIDE, SIDE))) for p in paths]


def visible_share(view: View, draws: int) -> float:
    """Return the mean share of a crop of the source, in cells of 8 pixels, that views of it show.

    Columns and rows are told by their grey values; the frame is filled with 0, which no place has.
    """
    cells = CROP // 8
    ramp = np.repeat(np.linspace(40, 240, cells).round().astype(np.uint8), 8)
    shares = []
    for number in range(draws):
        seen = []
        for image in (np.tile(ramp, (CROP, 1)), np.tile(ramp[:, None], (1, CROP))):
            seed(number)
            seen.append((view(image).astype(float) - 40) / 200 * (cells - 1))
        inside = (seen[0] > -1) & (seen[1] > -1)
        x, y = (np.clip(np.round(s[inside]), 0, cells - 1).astype(int) for s in seen)
        shares.append(len({*zip(x.tolist(), y.tolist(), strict=True)}) / cells**2)
    return float(np.mean(shares))


def figures(view: View, images: Sequence[np.ndarray], draws: int) -> dict[str, float]:
    """Return what views are like: their means over images and draws.

    Grey level, standard deviation of the grey levels, distance from the central crop in grey levels, its spread over
    the draws, share of black pixels, and sharpness (standard deviation of the Laplacian).
    """
    margin = (SIDE - CROP) // 2
    rows = []
    for number, image in enumerate(images):
        seed(number)
        # An image of the size of the crop: where a crop lies is no part of the comparison.
        source = np.ascontiguousarray(image[margin:-margin, margin:-margin])
        for _ in range(draws):
            out = view(source).astype(float)
            distance = np.abs(out - source).mean()
            rows.append((out.mean(), out.std(), distance, (out < 1).mean(), cv2.Laplacian(out, cv2.CV_64F).std()))
    grey, contrast, distance, black, sharpness = np.array(rows).T
    return {
        "grey": grey.mean(),
        "contrast": contrast.mean(),
        "distance": distance.mean(),
        "distance, spread": distance.std(),
        "black": black.mean(),
        "sharpness": sharpness.mean(),
    }


SINGLE: dict[str, dict[str, Any]] = {
    "horizontal_flip": {"horizontal_flip": 1},
    "vertical_flip": {"vertical_flip": 1},
    "rotation": {"rotation": 30},
    "perspective": {"perspective": 1},
    "autocontrast": {"autocontrast": 1},
    "affine": {"affine": 1},
    "jitter": {"jitter": 1},
    "blur": {"blur": 1},
}
GEOMETRIC = ("horizontal_flip", "vertical_flip", "rotation", "perspective", "affine")


def single(name: str) -> Augmentation:
    """Return one augmentation alone, always applied."""
    return Augmentation(**{**OFF, **SINGLE[name]})


def recipes() -> dict[str, Augmentation]:
    """Return the augmentation of every config that trains, by the names that are laid over each other."""
    layers = {
        **{name: [name] for name in ("imitate", "asg", "imitate_asg")},
        **{f"{name}+overlays/small": [name, "overlays/small"] for name in ("imitate", "asg", "imitate_asg")},
        # NAME.1.yaml goes over NAME.yaml, and changes no augmentation.
        **{
            name: [name]
            for kind in ("classification", "segmentation", "detection")
            for path in sorted((EXPERIMENTS / kind).glob("*.yaml"))
            if "." not in (name := path.relative_to(EXPERIMENTS).with_suffix("").as_posix())
        },
    }
    recipes = {}
    for name, configs in layers.items():
        composed = compose(["fit", *(word for config in configs for word in ("-c", config))])
        recipes[name] = Augmentation(**(composed["data"]["augmentation"] or {}))
    return recipes


def sheet(augmentation: Augmentation, images: Sequence[np.ndarray], views: int = 8) -> np.ndarray:
    """Draw the source and views of each image, medvlp's above the reference's."""
    margin = (SIDE - CROP) // 2
    rows = []
    for number, image in enumerate(images):
        for view in (ours(augmentation), reference(augmentation)):
            seed(number)
            source = image[margin:-margin, margin:-margin]
            row = np.hstack([source, np.full((CROP, 8), 255, np.uint8), *(view(image) for _ in range(views))])
            rows.append(row)
        rows.append(np.full((8, rows[-1].shape[1]), 255, np.uint8))
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, default=RADIOGRAPHS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    images = radiographs(options.images, most=24)
    for name in SINGLE:
        for who, view in (("medvlp", ours(single(name))), ("reference", reference(single(name)))):
            shown = f"visible {visible_share(view, 200):.3f}, " if name in GEOMETRIC else ""
            print(f"{name}, {who}: {shown}{', '.join(f'{k} {v:.2f}' for k, v in figures(view, images, 50).items())}")
    drawn: dict[str, str] = {}
    for name, augmentation in recipes().items():
        key = str(asdict(augmentation))
        if augmentation.off or key in drawn:
            print(f"{name}: {'the crop alone' if augmentation.off else f'as {drawn[key]}'}")
            continue
        drawn[key] = name
        path = options.out / f"{name.replace('/', '_')}.png"
        Image.fromarray(sheet(augmentation, images[:4])).save(path)
        print(f"{name}: {path}")


if __name__ == "__main__":
    main()
