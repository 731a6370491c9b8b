"""Where TensorRT's engines are kept: beside the artifact that they were built of, since building one takes minutes."""

from typing import Final

ENGINES_FOLDER: Final = "tensorrt"
"""Folder beside the artifacts; names in it begin with the first 16 characters of the artifact's."""
