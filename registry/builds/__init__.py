"""Steps of a registration that workers do: asked for over Kafka, by workers of the hardware type that they are about.

Reading order: build_files (the files of a step, by their content) -> build (the request, and how it ended) -> presence
(which workers do any) -> remote_steps (asks, and waits) -> chosen_steps (there or here). Who does them is
`workers.builder`.
"""
