"""Models as people keep them, made files that can be registered: what was found is guessed by content, and said.

Reading order: imported (what an import finds) -> importing (which kind of thing it is; the step) -> hugging_face,
triton (folders), hugging_face_weights (a model of what is only weights), config_text (Triton's configuration files) ->
openvino_files (two that become one), trees (XGBoost, LightGBM, scikit-learn).
"""
