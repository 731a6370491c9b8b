"""Location of TensorRT's engines: beside the artifact that they are built from, because a build takes minutes."""

from typing import Final

ENGINES_FOLDER: Final = "tensorrt"
"""Folder beside the artifacts; names in it begin with the first 16 characters of the artifact's name."""
