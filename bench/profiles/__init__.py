"""What profiles are worth: alike from one to the next, and what they predict against what happens in service.

Reading order: repeating (the same profile again and again) -> predicting (a batch, and an answer among others) ->
__main__.
"""
