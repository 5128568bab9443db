"""Use of a trained model: reading image files, and the commands `predict`, `explain` and `search`.

All access to a model goes through `medvlp.Model`. Nothing here trains or needs a Trainer. The package itself imports
nothing: processes that decode files must not import torch, which takes seconds and almost a gigabyte in each.
"""
