"""Path of the zoo's data files."""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
