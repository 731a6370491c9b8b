-- Steps of registrations that workers do, by their content: what was done is found here, and not done again.
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


-- Whether a worker does such steps. One of an older version does not.
ALTER TABLE workers ADD COLUMN builds boolean NOT NULL DEFAULT false;
