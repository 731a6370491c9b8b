"""Many real architectures: registered in one run, then served by a worker that cannot hold them all.

Reading order: models (torchvision's, as ONNX files) -> registering (registration of all, and its cost) -> serving (a
mixed load over a hundred variants) -> __main__.
"""
