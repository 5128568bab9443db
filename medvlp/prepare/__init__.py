"""From a raw data set to a prepared folder (`medvlp.prepared`), once; free of torch.

The pipeline and its parts are here, one file a data set in `medvlp.prepare.datasets`.
"""
