-- What gateways say to selectors in the records of queries, which clients write as well, they prove by this.
-- Two random UUIDs hold 244 random bits, by the server's own strong source of randomness.
CREATE TABLE system_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL
)


INSERT INTO system_secret (secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
