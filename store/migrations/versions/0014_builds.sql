-- Steps of registrations that workers execute, keyed by content, so that a finished step is not repeated.
CREATE TABLE builds (
    id text PRIMARY KEY,
    hardware text NOT NULL,
    step jsonb NOT NULL,
    asked_ms bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    outcome jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);


CREATE INDEX builds_open ON builds (hardware, created_at) WHERE outcome IS NULL;


-- True if the worker executes build steps; a worker of an older version does not.
ALTER TABLE workers ADD COLUMN builds boolean NOT NULL DEFAULT false;
