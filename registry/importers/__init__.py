"""Imports models from other formats into files that can be registered; guesses are made by content, and noted.

Reading order: imported (result of an import) -> importing (recognises the format; the step) -> hugging_face, triton
(folders), sentence_encoder (its pooling), hugging_face_weights (a model from its weights), decoder (a language model)
-> trees (XGBoost, LightGBM, scikit-learn).
"""
