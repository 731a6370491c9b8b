"""`make bench-peers`: our system beside the servers that people would pick instead, in one run on the same cores.

Each server serves the same ONNX files by onnxruntime with one thread, in an environment of its own and with settings
that its file states; each starts, is measured, and stops before the next, ours like the others. So a row of the tables
is a ratio within one run. The client, the servers and our Kafka share the cores; the client states its own cost, and
the broker's is shown apart, since it rarely shares a worker's machine.

Reading order: workloads (what is asked) -> client (who asks by HTTP) -> kafka_load (who asks by Kafka) -> servers (the
peers) -> scripts (what runs in their environments) -> environment (how they are installed) -> running (a peer while it
runs) -> checks (of answers) -> bracket (the search for the goodput) -> trial (what is measured of each) -> ours (our
system as one more server) -> contest (the order of a run) -> hops (CPU a query beside three bare hops) -> report (the
figures and tables) -> plots -> __main__.
"""
