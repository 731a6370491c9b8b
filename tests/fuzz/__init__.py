"""`make fuzz`: generated requests to every route of a gateway; its answers are checked against its OpenAPI document.

Reading order: http_fuzzing (requests made from the document) -> mutations (valid requests with an error inserted) ->
__main__ (with a system of its own).
"""
