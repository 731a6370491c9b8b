"""Registration: checks a model file, and generates, verifies, profiles and catalogs its variants.

Reading order: request (the requests), importers (model files from other formats), versions (the version of a model,
and which one serves) -> register (one registration, top to bottom) -> recipes, plan (the variants to make) ->
signature (inputs and outputs of a model) -> labelled_files, samples (inputs that calibrate and measure) -> quality
(the measures) -> pipeline (the steps that touch a model: inspection, generation, measurement, verification; each runs
in a process of its own, because native code may crash and memory is measured from a clean start), step_runner (runs
steps), builds (runs steps on workers) -> catalog_writer (rows and topics of a registration), access (owners and users)
-> artifacts (the store of files), artifact_cache, s3, artifact_settings (buckets, their local cache, and their
settings) -> system_identity (checks that Kafka and Postgres belong to one system) -> topics (creates, grows and drains
topics), tenants (tenants with topics of their own) -> composites (cascades and chains of registered variants) ->
registering (registers any request, with audit) -> removal (unregisters) -> comparison (finds dominated variants) ->
service (executes stored registrations and removals).
"""
