"""Fixtures shared by all tests: brokers and databases, real and started here."""

pytest_plugins = [
    "tests.ci",
    "tests.kafka_fixtures",
    "tests.postgres_fixtures",
    "tests.secured_kafka",
    "tests.temporary_folders",
]
