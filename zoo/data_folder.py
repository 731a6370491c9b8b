"""Where the zoo's files lie."""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
