"""The preparation of raw data sets as prepared folders (`medvlp.prepared`).

The pipeline and its parts are here; `medvlp.prepare.datasets` has a file for each data set. Nothing imports torch.
"""
