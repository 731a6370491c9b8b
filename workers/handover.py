"""Times of a hand-over of partitions, in seconds."""

from typing import Final

ASK_AGAIN_S: Final = 0.25
"""Time between two attempts to take missing partitions, or to hand over partitions that the row does not want."""
IN_USE_S: Final = 1.0
"""Time for which an instance counts as in use after it has read a query."""
NOTICED_S: Final = 0.5
"""Time within which selectors know from a status that a partition is not served any more."""
