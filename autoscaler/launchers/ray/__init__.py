"""Workers on a Ray cluster.

Reading order: launcher (in the autoscaler) -> messages (to and from its child process) -> driver (the child process,
which calls Ray) -> actor (a worker, on a node of the cluster).
"""
