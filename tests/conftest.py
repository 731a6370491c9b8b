"""Plugins of all tests: suites, servers that tests share, CI rules, temporary folders and garbage."""

pytest_plugins = [
    "tests.servers",  # first, since plugins below import it
    "tests.ci",
    "tests.garbage_collection",
    "tests.kafka_fixtures",
    "tests.postgres_fixtures",
    "tests.secured_kafka",
    "tests.suites",
    "tests.temporary_folders",
]
