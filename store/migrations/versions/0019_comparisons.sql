-- Sums over the copies of queries that a version computed, compared with the version that answered the clients.
CREATE TABLE version_comparisons (
    model text NOT NULL,
    version integer NOT NULL,
    against integer NOT NULL,
    compared bigint NOT NULL,
    failed bigint NOT NULL,
    agreed double precision NOT NULL,
    compute_s double precision NOT NULL,
    against_compute_s double precision NOT NULL,
    PRIMARY KEY (model, version, against),
    FOREIGN KEY (model, version) REFERENCES architectures (model, version) ON DELETE CASCADE
)
