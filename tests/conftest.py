import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real data: `data` under $MEDVLP_SHARED, or beside the checkout."""
    shared = Path(os.environ.get("MEDVLP_SHARED", Path(__file__).parents[2] / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data: {shared / 'data'} is not there, and $MEDVLP_SHARED names no other place")
    return shared / "data"
