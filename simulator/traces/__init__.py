"""Published traces of production inference services; README.md states their sources and licences.

Reading order: published_files (reads the files of this folder).
"""
