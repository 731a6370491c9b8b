"""Registration: checks a model file, and generates, verifies, profiles and catalogs its variants.

Reading order: registration (the request), importers (model files from other formats), fingerprint (identity of the
options), rollouts, versions (the version of a model, and which one serves) -> register (one registration, top to
bottom) -> recipes, plan (the variants to make), dry_run (the plan without execution) -> signature (inputs and outputs
of a model), processed (the same with processing around it) -> labelled_files, labels, samples (inputs that calibrate
and measure) -> quality (the measures), judging (the choice of a measure) -> pipeline (the steps that touch a model:
inspection, generation, measurement, verification; each runs in a process of its own, because native code may crash and
memory is measured from a clean start), step_runner (runs steps), builds (runs steps on workers) -> catalog_writer
(rows and topics of a registration), access (owners and users) -> artifacts (the store of files), artifact_transaction
(removes the files of a failed registration), checked_out_artifacts (local files for a step), artifact_cache, s3,
artifact_settings (buckets, their local cache, and their settings) -> system_identity (checks that Kafka and Postgres
belong to one system), service_command (command line of a service, with this check) -> topics (creates and grows
topics), drained_topics, tenants (tenants with topics of their own) -> variant_outputs (computes outputs of a
registered variant) -> composites (cascades and chains of registered variants) -> registering (registers a path, with
audit), registering_composites -> removal (unregisters) -> comparison (finds dominated variants).
"""
