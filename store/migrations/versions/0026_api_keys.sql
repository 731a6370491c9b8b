-- API keys. A revoked key is kept, so that its owner remains known.
CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    tenant text,
    roles text[] NOT NULL CHECK (roles <@ ARRAY['query', 'publish', 'admin'] AND cardinality(roles) > 0),
    -- NULL: all tasks.
    tasks text[],
    per_second double precision CHECK (per_second > 0),
    concurrent integer CHECK (concurrent > 0),
    note text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK (tenant IS NOT NULL OR 'admin' = ANY (roles))
)


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_api_keys', 'id')
