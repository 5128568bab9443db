"""The Trainer's surroundings: the commands `fit`, `validate` and `test`, callbacks and logging.

The models that it trains are in `medvlp.tasks`.
"""
