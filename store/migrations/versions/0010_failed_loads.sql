-- An instance may fail to load.
ALTER TABLE instances DROP CONSTRAINT instances_state_check


ALTER TABLE instances ADD CONSTRAINT instances_state_check
    CHECK (state IN ('inactive', 'loading', 'active', 'overloaded', 'interfered', 'draining', 'failed'))
