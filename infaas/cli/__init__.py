"""The command line: one file a group of commands.

Reading order: main (composes them) -> connect (where the system is), control (asked over a gateway, or straight),
output (tables, errors), progress_bar -> jobs -> remote_status, system (up, down, status), demo -> access (whose
things are) -> uploads (files on their way to a gateway), registered (variants made), registrations (done there) ->
register, building (where its steps run), processing, composites (cascades), unregister, listing, versions, plot (what
is there) -> query (ask, and explain) -> moments (times as people write them) -> batch_bar, batch_offers,
batch_topics, batch (rows of files or topics) -> scale, lag -> keys (who may ask) -> dead_letters, tenants, audit (who
did what), database.
"""
