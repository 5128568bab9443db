"""The source of a package of a stranger: an image encoder, a text encoder and an objective, one file each."""

from pathlib import Path

ENCODER = '''
import torch
from torch import nn
from medvlp.models import ImageEncoder
from medvlp.types import ImageFeatures


class SmallNet(ImageEncoder):
    """Five convolutions, each halving the image, and their average."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        widths = [1, *(channels * 2**i for i in range(5))]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in zip(widths, widths[1:])
        )

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        x, pyramid = self.normalise(image), []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return ImageFeatures(x.mean((2, 3)), pyramid)
'''
READER = '''
import zlib
import torch
from torch import nn
from medvlp.models import TextEncoder


class WordSum(TextEncoder):
    """The mean of a random vector a word."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.width = width
        self.words = nn.EmbeddingBag(97, width)

    def embed(self, texts):
        words = [torch.tensor([zlib.crc32(word.encode()) % 97 for word in f"^ {text}".split()]) for text in texts]
        starts = torch.tensor([0, *map(len, words)]).cumsum(0)[:-1]
        device = self.words.weight.device
        return self.words(torch.cat(words).to(device), starts.to(device))
'''
OBJECTIVE = '''
import torch
from torch import nn
from torch.nn import functional as F
from medvlp.models import ImageEncoder, TextEncoder
from medvlp.objectives import Objective


class SigmoidAlignment(Objective):
    """A sigmoid for each pair of image and report."""

    sections = ("report",)

    def __init__(self, image_encoder: ImageEncoder, text_encoder: TextEncoder, dim: int = 8) -> None:
        super().__init__()
        self.image_head = nn.Linear(image_encoder.width, dim)
        self.text_head = nn.Linear(text_encoder.width, dim)

    def forward(self, image, text, batch):
        studies, views = batch["image"].shape[:2]
        seen = self.embed_image(image)["report"].unflatten(0, (studies, views))[:, 0]
        target = 2 * torch.eye(studies, device=seen.device) - 1
        return {"sigmoid": -F.logsigmoid(target * (10 * seen @ self.embed_text(text.sections["report"]).T - 5)).mean()}

    def embed_image(self, image):
        return {"report": F.normalize(self.image_head(image.pooled).float(), dim=1)}

    def embed_text(self, text):
        return F.normalize(self.text_head(text).float(), dim=1)
'''


def make_package(folder: Path, name: str = "mylab") -> None:
    """Write the package FOLDER/NAME."""
    (folder / name).mkdir()
    for module, content in {"__init__": "", "encoder": ENCODER, "reader": READER, "objective": OBJECTIVE}.items():
        (folder / name / f"{module}.py").write_text(content)
