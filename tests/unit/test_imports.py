"""What a start does not wait for."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADED = "import sys, trollproxy.cli; print(*sys.modules)"


def test_the_mongodb_driver_is_not_loaded_where_nobody_asks_for_it() -> None:
    """It is a fifth of the memory at rest, and of the time to the first answer."""
    ran = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "trollproxy.store.sqlite" in loaded
    assert loaded & {"trollproxy.store.mongo", "motor", "pymongo", "bson"} == set()
