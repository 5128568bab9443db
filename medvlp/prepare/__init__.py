"""From a raw data set to a prepared folder (`medvlp.prepared`), once.

A data set is one file here: a function that is its command, and a `medvlp.prepare.dataset.DataSet` that yields its
studies in order. Everything else, from the filters to the resumable decoding, is `medvlp.prepare.pipeline`.
"""

from medvlp.prepare.chexpert import chexpert
from medvlp.prepare.covidx import covidx
from medvlp.prepare.mimic_cxr import mimic_cxr
from medvlp.prepare.ms_cxr import ms_cxr
from medvlp.prepare.nih import nih
from medvlp.prepare.object_cxr import object_cxr
from medvlp.prepare.open_i import open_i
from medvlp.prepare.rsna import rsna
from medvlp.prepare.siim import siim

__all__ = ["COMMANDS", "chexpert", "covidx", "mimic_cxr", "ms_cxr", "nih", "object_cxr", "open_i", "rsna", "siim"]

COMMANDS = {
    "mimic_cxr": mimic_cxr,
    "chexpert": chexpert,
    "covidx": covidx,
    "ms_cxr": ms_cxr,
    "nih": nih,
    "object_cxr": object_cxr,
    "open_i": open_i,
    "rsna": rsna,
    "siim": siim,
}
