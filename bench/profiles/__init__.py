"""Quality of profiles: their repeatability, interference, and their predictions against measurements in service.

Reading order: repeating (the same profile several times) -> interfering (a batch beside a busy slot) -> predicting (a
batch, and an answer among others) -> __main__.
"""
