"""Workers on a Ray cluster.

Reading order: launcher (in the autoscaler; its messages) -> driver (its child process, which calls Ray) -> actor (a
worker, on a node of the cluster).
"""
