"""Whole networks use the simulator tests' second implementation, which lies beside those."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "simulator" / "tests" / "arithmetic"))
