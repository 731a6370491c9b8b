"""Imports models from other formats into files that can be registered; guesses are made by content, and noted.

Reading order: imported (result of an import) -> importing (recognises the format; the step) -> hugging_face, triton
(folders), hugging_face_weights (a model from its weights), config_text (Triton's configuration files) -> openvino_files
(packs two files into one), trees (XGBoost, LightGBM, scikit-learn).
"""
