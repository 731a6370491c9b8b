"""Fixtures: Postgres databases."""
