"""The texts of a pre-training, which a frozen text encoder embeds once, before the first step."""

from __future__ import annotations

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp.data import CXRDataModule
from medvlp.objectives.base import section_texts
from medvlp.tasks.base import READ
from medvlp.tasks.vision_language import VisionLanguageTask


def embed_ahead(task: VisionLanguageTask, data: CXRDataModule) -> None:
    """Store the embeddings of all reports, sentences and prompts of a run, if the text encoder is frozen."""
    trainer = task.trainer
    # A run that overfits reads the texts of a few batches, which it embeds as it reads them.
    names = [] if data.overfits else READ[trainer.state.fn]
    findings, impression = data.reports(names)
    texts = [text for section in task.read_sections for text in section_texts(section, findings, impression)]
    texts += task.protocol.texts(filter(task.protocol.knows, data.labels))
    task.text_encoder.open_cache(data.text_cache)
    if task.text_encoder.cache is not None and (task.reads_sentences or (task.reads_words and data.regions)):
        sentences = data.sentences(names, placed=not task.reads_sentences)
        about = "" if task.reads_sentences else " about regions"
        rank_zero_info(f"The reports of this run have {len(sentences):,} different sentences{about}.")
        texts += sentences
    task.text_encoder.fill(texts, trainer.strategy.root_device, progress=True)
