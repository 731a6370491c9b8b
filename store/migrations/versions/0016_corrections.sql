-- Factor for the latency of a variant's profile on a worker, as observed in long-term operation.
CREATE TABLE corrections (
    variant text NOT NULL REFERENCES profiles (variant) ON DELETE CASCADE,
    worker text NOT NULL REFERENCES workers (name) ON DELETE CASCADE,
    factor double precision NOT NULL CHECK (factor > 0),
    since timestamptz NOT NULL,
    PRIMARY KEY (variant, worker)
);
