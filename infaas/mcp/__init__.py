"""Tasks as tools of the Model Context Protocol: an agent calls a task, states its needs, and never names a model.

Reading order: needs (needs and options of a call, pure) -> arguments (JSON Schema and values of a tool, pure) -> server
(tools by the official package).
"""
