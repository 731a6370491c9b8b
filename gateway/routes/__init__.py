"""The paths the gateway answers, by what they are about.

Reading order: inference (the main job) -> metadata (what there is) -> health.
"""
