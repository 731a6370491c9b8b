"""Registration: a model file becomes variants that can be chosen; checked, generated, verified and profiled.

Reading order: registration (what is asked for), importers (files made of what people have), fingerprint (the same in
few words), rollouts, versions (which of its model, and what becomes of it) -> register (the way of a registration, top
to bottom) -> recipes, plan (which variants), dry_run (the same, told beforehand) -> signature (what a model takes and
gives), processed (with steps around it) -> labelled_files, labels, samples (inputs that calibrate and measure) ->
quality (the measures), judging (which one) -> pipeline (the steps that touch a model: inspection, generation,
measurement, verification, each run in isolation since native code may crash and memory must be measured from a clean
start), step_runner (where they run), builds (on workers of their hardware) -> catalog_writer (what is written down),
access (whose it is) -> artifacts (where files are kept), brought_artifacts (what a registration takes back),
held_artifacts (what a step needs here), artifact_cache, s3, artifact_settings (in a bucket, and in a bounded folder) ->
system_identity (that Kafka and Postgres are of one system), service_command (whose services check it) -> topics (what
Kafka needs for it), drained_topics, tenants (who asks by topics of its own) -> variant_outputs (what a variant answers)
-> composites (cascades and chains of what is registered) -> registering (what lies anywhere, for whoever asks),
registering_composites -> removal (all of it gone) -> comparison (which variants are worth it).
"""
