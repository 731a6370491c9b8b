"""Plugins of all tests: fixtures that start real brokers and databases, CI rules, temporary folders and garbage."""

pytest_plugins = [
    "tests.ci",
    "tests.garbage_collection",
    "tests.kafka_fixtures",
    "tests.postgres_fixtures",
    "tests.secured_kafka",
    "tests.suites",
    "tests.temporary_folders",
]
