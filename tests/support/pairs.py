"""Tiny published pairs of an image encoder and a text encoder, of chance, written as their authors write them."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from open_clip.factory import create_model_from_pretrained
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from tests.support.tiny import WORDS, make_language_model

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
VIT = {"image_size": 32, "layers": 4, "width": 64, "head_width": 32, "patch_size": 16, "mlp_ratio": 2.0}
TRUNK = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
CNN = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "mlp", "image_size": 160}
OWN = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
BERT = {"context_length": 16, "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
OPEN_CLIP = {
    "clip": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": OWN},
    # As BiomedCLIP.
    "bert": {"embed_dim": 16, "vision_cfg": TRUNK, "text_cfg": BERT},
    "mean": {
        "embed_dim": 24,
        "vision_cfg": CNN,
        "text_cfg": {**BERT, "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler"},
    },
    # As SigLIP.
    "siglip": {
        "embed_dim": 16,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": TRUNK,
        "text_cfg": {**OWN, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
}


def shake(network: nn.Module) -> nn.Module:
    """Add chance to the values of a network, of which some start as zeros and ones, and return it."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            # Kernels of convolutions stay: the sums of a ResNet that no training has scaled would overflow.
            if value.is_floating_point() and value.ndim < 4 and "logit" not in name:
                value.add_(torch.rand(value.shape, generator=generator) * 0.1)
    return network.eval()


def make_open_clip(folder: Path, kind: str, resize_mode: str | None = None) -> nn.Module:
    """Write a model of open_clip as it pushes one to the hub; return it as open_clip itself reads it."""
    config = json.loads(json.dumps(OPEN_CLIP[kind]))
    folder.mkdir()
    if "hf_pooler_type" in config["text_cfg"]:
        language = make_language_model(folder / "language", WORDS)
        config["text_cfg"] |= {"hf_model_name": str(language), "hf_tokenizer_name": str(language)}
        for file in language.glob("*token*"):
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "vocab.txt").write_bytes((language / "vocab.txt").read_bytes())
    preprocessing = {"mean": MEAN, "std": STD} | ({"resize_mode": resize_mode} if resize_mode else {})
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    torch.manual_seed(0)
    model = shake(open_clip.create_model(f"local-dir:{folder}", pretrained_text=False))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return create_model_from_pretrained(f"local-dir:{folder}", return_transform=False).eval()


def make_tokenizer(folder: Path, **marks: str) -> PreTrainedTokenizerFast:
    """Write a tokenizer of whole words that ends each text with its mark."""
    vocabulary = ["<pad>", "<unk>", *WORDS, "<s>", "</s>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pairs = [(word, vocabulary.index(word)) for word in ("<s>", "</s>")]
    first = "<s> " if "bos_token" in marks else ""
    tokenizer.post_processor = processors.TemplateProcessing(f"{first}$A </s>", special_tokens=pairs)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", **marks)
    fast.save_pretrained(folder)
    return fast


def make_clip(folder: Path) -> CLIPModel:
    """Write a CLIP of transformers, with tokenizer and image processor, and return it."""
    text = {
        "vocab_size": 32,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {
        "max_position_embeddings": 12,
        "eos_token_id": 15,
        "bos_token_id": 14,
        "pad_token_id": 0,
        "projection_dim": 16,
    }
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    tokenizer = make_tokenizer(folder, bos_token="<s>", pad_token="<pad>")
    text["eos_token_id"], text["bos_token_id"] = tokenizer.eos_token_id, tokenizer.bos_token_id
    torch.manual_seed(0)
    model = shake(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)))
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return model


def make_siglip(folder: Path) -> SiglipModel:
    """Write a SigLIP of transformers, with tokenizer and image processor, and return it."""
    text = {
        "vocab_size": 32,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {"max_position_embeddings": 12, "projection_size": 64}
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    make_tokenizer(folder, pad_token="<pad>", model_input_names=["input_ids"])
    torch.manual_seed(0)
    model = shake(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-12.0)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return model


class BioViL(nn.Module):
    """The image half of BioViL-T for an image without an earlier one, with the names of its published file."""

    def __init__(self, two_images: bool = True) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.encoder = nn.Module()
        self.encoder.encoder = resnet50()
        del self.encoder.encoder.fc
        width = 2048
        if two_images:
            self.encoder.backbone_to_vit = nn.Conv2d(2048, 256, 1, bias=False)
            self.encoder.missing_previous_emb = nn.Parameter(torch.randn(1, 256, 1, 1))
            width = 512
        self.projector = nn.Module()
        self.projector.model = nn.Sequential(
            nn.Conv2d(width, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 128, 1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the projected patches (N, 128, h, w)."""
        net = self.encoder.encoder
        patches = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        patches = net.layer4(net.layer3(net.layer2(net.layer1(patches))))
        if hasattr(self.encoder, "backbone_to_vit"):
            patches = self.encoder.backbone_to_vit(patches)
            missing = self.encoder.missing_previous_emb.expand(len(image), -1, *patches.shape[2:])
            patches = torch.cat([patches, missing], 1)
        return self.projector.model(patches)


class CxrBert(nn.Module):
    """CXR-BERT with the names of its published file."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        head = self.cls_projection_head = nn.Module()
        head.dense_to_hidden = nn.Linear(config.hidden_size, 128)
        head.LayerNorm = nn.LayerNorm(128, eps=1e-12)
        head.dense_to_output = nn.Linear(128, 128)

    def forward(self, **tokens: torch.Tensor) -> torch.Tensor:
        """Return the projected text features (M, 128)."""
        hidden, head = self.bert(**tokens).last_hidden_state[:, 0], self.cls_projection_head
        return head.dense_to_output(head.LayerNorm(nn.functional.gelu(head.dense_to_hidden(hidden))))


def make_biovil(folder: Path, two_images: bool = True) -> tuple[BioViL, CxrBert]:
    """Write BioViL-T, or BioViL, in its published layout; return both halves."""
    make_language_model(folder, WORDS)
    for file in (folder / "model.safetensors", folder / "config.json"):
        file.unlink()
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    # As on the hub: with classes that only its code has.
    content = config.to_dict() | {"model_type": "cxr-bert", "projection_size": 128, "architectures": ["CXRBertModel"]}
    content["auto_map"] = {"AutoConfig": "configuration_cxrbert.CXRBertConfig"}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "tokenizer.json").unlink()
    code = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    settings = {"tokenizer_class": "CXRBertTokenizer", "auto_map": code, "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "configuration_cxrbert.py").write_text("raise SystemExit('code of the hub ran')\n")
    torch.manual_seed(0)
    image, text = shake(BioViL(two_images)), shake(CxrBert(config))
    file = "biovil_t_image_model_proj_size_128.pt" if two_images else "biovil_image_resnet50_proj_size_128.pt"
    torch.save(image.state_dict(), folder / file)
    torch.save({**text.state_dict(), "cls.predictions.bias": torch.zeros(3)}, folder / "pytorch_model.bin")
    return image, text
