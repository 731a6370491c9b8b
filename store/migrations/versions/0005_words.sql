-- One name for each thing, as in the code. Views keep working after a rename.
ALTER TABLE scale_pins RENAME COLUMN least TO minimum


ALTER TABLE scale_pins RENAME COLUMN most TO maximum


ALTER TABLE scale_pins RENAME CONSTRAINT least_is_at_most_most TO minimum_is_at_most_maximum


ALTER TABLE places RENAME TO group_partitions


ALTER TABLE lag_readings RENAME COLUMN places TO group_partitions


ALTER TABLE lag_minutes RENAME COLUMN places TO group_partitions
