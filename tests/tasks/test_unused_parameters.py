"""Every trainable parameter has a gradient after a step: DistributedDataParallel would wait for it."""

from types import SimpleNamespace

import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives.cross_attention_alignment import CrossAttentionAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.objectives.query_decoding import QueryDecoding
from medvlp.objectives.sentence_patch_alignment import SentencePatchAlignment
from medvlp.tasks import PretrainingTask
from medvlp.tasks.precision import BFloat16Weights
from tests.support.runs import UNCHANGED
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow

KINDS = {
    "labels": (LabelClassification, {}),
    "radzero": (SentencePatchAlignment, {"layers": 1}),
    "carzero": (CrossAttentionAlignment, {"layers": 1, "hidden": 20}),
    "kad": (QueryDecoding, {"layers": 1}),
    "medklip": (QueryDecoding, {"layers": 1, "descriptions": True, "report_weight": 0, "contrast_weight": 0}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trainable_layers", [0, None])
@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_vit.r160_in1k"])
def test_a_step_reaches_every_parameter(place, kind, trainable_layers, name):
    torch.manual_seed(0)
    image = TimmEncoder(name, pretrained=False, image_size=32 if "vit" in name else None)
    text = HFTextEncoder(str(place / "bert"), trainable_layers, "mean")
    make, options = KINDS[kind]
    task = PretrainingTask(image, text, {kind: lambda *encoders: make(*encoders, **options)})
    data = CXRDataModule(place / "data", 8, 32, views=1, augmentation=UNCHANGED, num_workers=0)
    data.trainer = SimpleNamespace(lightning_module=task, overfit_batches=0)  # the task says what it reads
    batch = next(iter(data.train_dataloader()))
    terms = task.objectives[kind](*task.encode_batch(batch), batch)
    torch.stack(list(terms.values())).sum().backward()
    without = [key for key, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "labels"])
def test_similarities_of_a_task_with_weights_in_bf16(place, kind):
    text = HFTextEncoder(str(place / "bert"), 0, "mean")
    make, options = KINDS[kind]
    encoder = TimmEncoder("test_resnet.r160_in1k", pretrained=False)
    task = PretrainingTask(encoder, text, {kind: lambda *encoders: make(*encoders, **options)})
    BFloat16Weights("cpu").convert_module(task)
    task.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        images = task.embed_images(task.image_encoder(torch.randint(255, (3, 32, 32), dtype=torch.uint8)))
        texts = task.embed_texts(["effusion", "no effusion"])
    with torch.no_grad():
        similarity = task.compare(f"{kind}/report", images[f"{kind}/report"], texts[f"{kind}/report"])
    assert similarity.shape == (3, 2)
    assert torch.isfinite(similarity).all()


def test_a_trained_text_encoder_has_a_gradient_without_texts(place):
    """A process whose batch has no sentence takes part in the exchange of gradients."""
    text = HFTextEncoder(str(place / "bert"), None, "mean")
    text([]).sum().backward()
    gradients = [parameter.grad for parameter in text.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_layers_that_no_objective_reads_are_refused(place):
    encoder = TimmEncoder("resnet18.a1_in1k", pretrained=False, trainable_layers=1)
    text = HFTextEncoder(str(place / "bert"))
    with pytest.raises(UserError, match="depend on none of the layers to train"):
        PretrainingTask(encoder, text, {"kad": lambda *encoders: QueryDecoding(*encoders, layers=1)})
