"""What surrounds the Trainer: the commands `fit`, `validate` and `test`, callbacks and logging.

What is trained is in `medvlp.tasks`.
"""
