"""What transformers runs with trust_remote_code: the classes of medvlp."""

try:
    from medvlp.export.huggingface import MedVLPConfig, MedVLPModel, MedVLPProcessor
except ImportError as error:
    raise ImportError(
        "this model is made of classes of medvlp, and medvlp or something that it needs is not installed: "
        "see README.md beside it."
    ) from error
