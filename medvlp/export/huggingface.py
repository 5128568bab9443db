"""Exported folders for transformers: `AutoModel` and `AutoProcessor` with trust_remote_code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from PIL import Image, ImageOps
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import LeftOutError, UserError
from medvlp.export.folder import REMOTE_CODE
from medvlp.export.towers import TAGS, ImageTower, TextTower, joined_outputs
from medvlp.inference.reading import read_file
from medvlp.models.weights import TEXT_ENCODER
from medvlp.prepare.pixels import to_grey
from medvlp.prepared import Geometry
from medvlp.tasks.checkpoints import CONFIG, load_pretraining

USE = """With transformers, where medvlp is installed, too:

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{name}", trust_remote_code=True{trust})
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
outputs = model(**processor(text=["Pleural effusion.", "The lungs are clear."], images=["image.png"]))
outputs.logits_per_image  # cosines (images, texts)
```"""

# Without the `try`, transformers would advise to install a package named medvlp from the index.
CODE = '''"""What transformers runs with trust_remote_code: the classes of medvlp."""

try:
    from medvlp.export.huggingface import MedVLPConfig, MedVLPModel, MedVLPProcessor
except ImportError as error:
    raise ImportError(
        "this model is made of classes of medvlp, and medvlp or something that it needs is not installed: "
        "see README.md beside it."
    ) from error
'''
# Options for downloads from the hub; other options of `from_pretrained` have no effect here.
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
Picture = str | Path | Image.Image


def use(name: str, trust: Sequence[str] = ()) -> str:
    """Return for the model card how transformers loads the folder, with the packages to trust."""
    return USE.format(name=name, trust=f", trust={list(trust)}" if trust else "")


def add(folder: Path) -> None:
    """Add the entries and the module that transformers looks for to an exported folder."""
    module = REMOTE_CODE.removesuffix(".py")
    config = json.loads((folder / CONFIG).read_text())
    config |= {
        "model_type": MedVLPConfig.model_type,
        "architectures": [MedVLPModel.__name__],
        "auto_map": {
            "AutoConfig": f"{module}.{MedVLPConfig.__name__}",
            "AutoModel": f"{module}.{MedVLPModel.__name__}",
            "AutoProcessor": f"{module}.{MedVLPProcessor.__name__}",
        },
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / REMOTE_CODE).write_text(CODE)


class MedVLPConfig(PretrainedConfig):
    """The content of config.json."""

    model_type = "medvlp"


@dataclass
class MedVLPOutput(ModelOutput):
    """Outputs of a model for images and texts.

    Attributes:
        logits_per_image: Mean cosine over the joint spaces, (N, M).
        logits_per_text: The same, (M, N).
        image_embeds: Embeddings of images (N, D).
        text_embeds: Embeddings of texts (M, D).
        tags: Probabilities (N, T) of the tag decoder, if there is one.
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    tags: Tensor | None = None


class MedVLPModel(PreTrainedModel):
    """A pre-trained model of medvlp, for inference.

    An embedding concatenates those of all joint spaces, as `medvlp.Model.embedding` does. The product of two
    embeddings is the mean cosine over the spaces.
    """

    config_class = MedVLPConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MedVLPConfig, image: ImageTower, text: TextTower) -> None:
        super().__init__(config)
        self.image, self.text = image, text

    @classmethod
    def from_pretrained(  # type: ignore[override]  # of its many options, those of the hub are of use
        cls, name: str, *args: Any, config: MedVLPConfig | None = None, **kwargs: Any
    ) -> MedVLPModel:
        """Load a folder of `medvlp export`, local or on the hub.

        Raises:
            UserError: If `dtype` or `device_map` asks to cast the weights or to place them on devices.
        """
        dtype, device = kwargs.get("dtype", kwargs.get("torch_dtype")), kwargs.get("device_map")
        if dtype not in (None, "auto", torch.float32) or device:
            raise UserError("load the model without dtype and device_map, and move it with .to(device).")
        folder = fetch(name, kwargs)
        task = load_pretraining(folder, kwargs.get("trust", ()))
        model = cls(config or MedVLPConfig.from_pretrained(folder), ImageTower(task), TextTower(task))
        model.eval()  # type: ignore[no-untyped-call]
        return model

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Refuse, because an exported folder holds more than weights."""
        raise UserError("copy the folder that the model was loaded from; 'medvlp export' writes another.")

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Return the embeddings (N, D) of images, uint8 (N, H, W)."""
        return joined_outputs(self.image(pixel_values))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor, **tokens: Tensor) -> Tensor:
        """Return the embeddings (M, D) of texts from their tokens (M, length)."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **tokens}
        return joined_outputs(self.text(*(given[name] for name in self.text.inputs)))

    def forward(self, pixel_values: Tensor, **tokens: Tensor) -> MedVLPOutput:
        """Return embeddings, similarities and tags for images, uint8 (N, H, W), and tokens (M, length) of texts."""
        outputs = self.image(pixel_values)
        image, text = joined_outputs(outputs), self.get_text_features(**tokens)
        return MedVLPOutput(image @ text.T, text @ image.T, image, text, outputs.get(TAGS))


class MedVLPProcessor:
    """Converts image files or pictures, and texts, to the inputs of the model.

    Args:
        preprocessing: Preprocessing of the images.
        tokenizer: Tokenizer of the text encoder.
        max_length: Maximum number of tokens; longer texts are cut.
    """

    def __init__(self, preprocessing: Preprocessing, tokenizer: Any, max_length: int) -> None:
        self.preprocessing, self.tokenizer, self.max_length = preprocessing, tokenizer, max_length

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Do nothing; transformers would prepare a processor for saving here."""

    @classmethod
    def from_pretrained(cls, name: str, **kwargs: Any) -> MedVLPProcessor:
        """Load the processor of a folder of `medvlp export`, local or on the hub."""
        folder = fetch(name, kwargs)
        config = json.loads((folder / CONFIG).read_text())
        text = config["hyper_parameters"]["text_encoder"]["init_args"]
        tokenizer = AutoTokenizer.from_pretrained(folder / TEXT_ENCODER)
        return cls(Preprocessing(**config["data"]["preprocessing"]), tokenizer, text["max_length"])

    def __call__(
        self, text: str | Sequence[str] | None = None, images: Picture | Sequence[Picture] | None = None
    ) -> BatchFeature:
        """Return `pixel_values`, uint8 (N, H, W), of the given images, and tokens of the given texts.

        Raises:
            UserError: If a file is missing or cannot be decoded.
        """
        features: dict[str, Any] = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            features |= self.tokenizer(
                texts, max_length=self.max_length, truncation=True, padding=True, return_tensors="pt"
            )
        if images is not None:
            pictures = [images] if isinstance(images, str | Path | Image.Image) else images
            features["pixel_values"] = torch.from_numpy(np.stack([self._see(picture) for picture in pictures]))
        return BatchFeature(features)

    def _see(self, picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if isinstance(picture, Image.Image):
            picture = ImageOps.exif_transpose(picture)
            geometry = Geometry.of(picture.height, picture.width, self.preprocessing.size, self.preprocessing.fit)
            inner = to_grey(picture).resize(geometry.inner, Image.Resampling.HAMMING)
            return self.preprocessing.see(geometry.place(np.asarray(inner)))
        try:
            return read_file(picture, self.preprocessing)[0]
        except LeftOutError as error:
            raise UserError(f"image '{picture}' cannot be read: {error}.") from error


def fetch(name: str, options: dict[str, Any]) -> Path:
    """Return the folder of a name: the local folder, or a download from the hub."""
    if Path(name).is_dir():
        return Path(name)
    return Path(snapshot_download(name, **{key: options[key] for key in HUB_OPTIONS if key in options}))
