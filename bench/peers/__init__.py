"""`make bench-peers`: our system beside other model servers, in one run on the same cores.

Each server serves the same ONNX files with onnxruntime and one thread, in an environment of its own and with the
settings in `peers`. Each starts, is measured, and stops before the next; ours is treated alike. So a row of the tables
is a ratio within one run. The client, the servers and our Kafka share the cores. The client reports its own cost, and
the broker's is shown apart, because it rarely shares a worker's machine.

Reading order: workloads (queries, objectives and answers) -> peer (interface of a peer) -> triton, peers (all peers) ->
scripts (programs in their environments) -> running (a peer, installed and running) -> trial (measurement of one
server) -> ours (our system as one more server) -> contest (the order of a run) -> report (the figures and tables) ->
__main__.
"""
