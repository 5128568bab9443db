"""From a raw data set to a prepared folder (`medvlp.prepared`), once.

A data set is one file here: a function that is its command, and a `medvlp.prepare.dataset.DataSet` that yields its
studies in order. Everything else, from the filters to the resumable decoding, is `medvlp.prepare.pipeline`.
"""

from medvlp.prepare.mimic_cxr import mimic_cxr
from medvlp.prepare.open_i import open_i

__all__ = ["COMMANDS", "mimic_cxr", "open_i"]

COMMANDS = {"mimic_cxr": mimic_cxr, "open_i": open_i}
