"""A few tasks with trained models and real labelled data, so that a fresh installation has something to serve.

The files are in `data/`; `README.md` says where they come from and under which licences.

Reading order: catalog (tasks and their architectures) -> data_folder, encoded (texts and image files), samples
(labelled inputs) -> minilm (builds the large sentiment models from their packed weights) -> register (puts all of it
into the registry).
"""
