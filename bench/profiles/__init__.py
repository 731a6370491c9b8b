"""Quality of profiles: their repeatability, and their predictions against measurements in service.

Reading order: repeating (the same profile several times) -> predicting (a batch, and an answer among others) ->
__main__.
"""
