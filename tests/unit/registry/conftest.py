"""Fixtures: model files and labelled data to register."""

from tests.model_files import make_model, make_samples, progress

__all__ = ["make_model", "make_samples", "progress"]
