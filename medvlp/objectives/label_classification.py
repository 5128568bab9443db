"""Plain supervised learning of labels, the control of all that reads text; zero-shot by the names of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.losses import tag_loss
from medvlp.metrics import label_auroc
from medvlp.models import ImageEncoder, TextEncoder
from medvlp.objectives.base import Objective
from medvlp.objectives.study_labels import LabelTexts, StudyLabels, label_names
from medvlp.objectives.tags import LabelSet
from medvlp.types import ABSENT, PRESENT, UNCERTAIN, Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures

# Temperature at which a text chooses among the statements about labels.
CHOICE = 0.05


class LabelClassification(Objective):
    """Predicts the labels of a study from the image: one linear layer, one logit z_c a label.

        bce   w mean over labelled images and labels of the binary cross entropy

    Labels that are uncertain or not mentioned count as absent. All views of an image take part. No text is read.

    Texts are compared by the names of the labels, as in convex combinations of embeddings (ConSE, arXiv 1312.5650).
    There are two statements a name, that it is present and that it is absent; a label has its own name and those of the
    findings that it stands for. Let a be the softmax of cos(text, statement) / .05 over all statements, with embeddings
    centred at their mean, and a_c the sum over the names of label c. The similarity of image and text is

        sum_c (a_c,present - a_c,absent) (2 sigmoid(z_c) - 1)

    Thus each text that says the same as a label has the score of this label. What no label says has no score of use.

    Deviations from the unimodal criterion of DLILP (IPMI 2025, code at 2f09204): the layer is linear in the features
    with a bias, where the code has the cosine with learned prototypes and a learned temperature; the code looks a class
    up by its name, and has no score for other texts.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, which reads the statements; it is not trained by this objective.
        labels: A label set, for the labels of the parser; or all labels of the prepared folder, in its order.
        weight: Weight w of the term.
        prompt: Statement that a label is present, with {} for its name.
        denial: Statement that it is absent.
    """

    sections = ("report",)
    heat_source = "global"
    member: Tensor
    quality = "auroc/macro"
    trains_texts = False

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        labels: LabelSet | Sequence[str] = "chexpert",
        weight: float = 1.0,
        prompt: str = "There is {}.",
        denial: str = "No {}.",
    ) -> None:
        super().__init__()
        self.weight = weight
        self.labels = StudyLabels(labels)
        self.reads_labels = labels if self.labels.of_folder else ()
        self.reads_findings = not self.labels.of_folder
        names = label_names(self.labels.names)
        self.statements = LabelTexts(text_encoder, list(names), {PRESENT: prompt, ABSENT: denial})
        member = [[float(c in positions) for c in range(len(self.labels.names))] for positions in names.values()]
        self.register_buffer("member", torch.tensor(member), persistent=False)
        self.classifier = nn.Linear(image_encoder.width, len(self.labels.names))

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `bce`; see `Objective.forward`."""
        state, known = (rows.repeat_interleave(batch["image"].shape[1], 0) for rows in self.labels(batch))
        mask = known[:, None].expand_as(state)
        return {"bce": self.weight * tag_loss(self.classifier(image.pooled), state == PRESENT, mask)}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return 2 sigmoid(z) - 1 of each label, (N, T), under `report`; not normalised."""
        return {"report": self._signed(image.pooled)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the weight of each label in texts, (M, T): positive if they state it, negative if they deny it."""
        statement = self.statements.each().float()
        centre = statement.mean(0)
        with torch.autocast(text.device.type, enabled=False):
            text, statement = (F.normalize(rows.float() - centre, dim=1) for rows in (text, statement))
            present, absent = (text @ statement.T / CHOICE).softmax(1).chunk(2, 1)
            return (present - absent) @ self.member

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the products (N, M) of signed probabilities and weights: no cosine, for neither has length 1."""
        return image @ text.T

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the probability of each label, and its state."""
        state, known = self.labels(batch)
        probability = self.classifier(image.pooled).float().sigmoid()
        # Uncertain states are left out of the metrics.
        return {"probability": probability, "label": state.masked_fill(~known[:, None], UNCERTAIN)}

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the AUROC of each label and their mean; unmentioned labels are absent, uncertain ones are left out."""
        aurocs = label_auroc(rows["probability"], rows["label"], self.labels.names)
        return {f"auroc/{name}": value for name, value in aurocs.items()}

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the similarity of each place with the texts, a class activation map; see `Objective.text_heat`."""
        assert places is not None  # of its heat source
        signed = self._signed(places.permute(0, 2, 3, 1))
        with torch.autocast(signed.device.type, enabled=False):
            return torch.einsum("nhwt,mt->nmhw", signed, self.embed_text(text.pooled))

    def _signed(self, features: Tensor) -> Tensor:
        probability: Tensor = self.classifier(features).float().sigmoid()
        return 2 * probability - 1
