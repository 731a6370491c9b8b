"""Calibration: scenarios that are played on a real system and simulated, and the errors of the simulation.

Reading order: task_load (queries that load a fleet to its capacity) -> scenarios -> measured_settings (the times of a
real run as settings) -> comparison (errors beside the noise of two real runs).
"""
