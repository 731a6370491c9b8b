"""Plugins of all tests: fixtures that start real brokers and databases, CI rules and temporary folders."""

pytest_plugins = [
    "tests.ci",
    "tests.kafka_fixtures",
    "tests.postgres_fixtures",
    "tests.secured_kafka",
    "tests.temporary_folders",
]
