"""A few tasks with trained models and real labelled data, so that a fresh installation can serve queries.

The files are in `data/`; `README.md` states their origins and licences.

Reading order: samples (labelled inputs) -> catalog (tasks and their architectures) -> whole_file (writes files of the
cache) -> minilm (builds the large models from their weights) -> sentences, chat (an encoder and language models on
demand) -> register (registers the zoo).
"""
