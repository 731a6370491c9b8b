-- Callers may authenticate by a name in their certificate: such a row is like that of a key, but has no secret.
ALTER TABLE api_keys
    ALTER COLUMN secret_hash DROP NOT NULL,
    ADD COLUMN certificate text COLLATE "C" CHECK (certificate <> ''),
    ADD CONSTRAINT api_keys_shown CHECK ((secret_hash IS NULL) <> (certificate IS NULL))


CREATE UNIQUE INDEX api_keys_certificate ON api_keys (certificate) WHERE revoked_at IS NULL
