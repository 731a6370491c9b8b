"""Language models in ONNX files with onnxruntime: graphs that take and return the keys and values of earlier tokens.

Reading order: layout (inputs and outputs of a graph) -> settings (tokenizer and template, inside the file) -> prompts
(texts to tokens) -> sampling, answer_text (tokens to texts) -> graph (one run) -> answer, session (answers at once) ->
runtime.
"""
