-- Gateways use this secret to sign the values that they send to selectors in query records, because clients can write
-- such records, too. Two random UUIDs contain 244 random bits from the server's cryptographic random source.
CREATE TABLE system_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL
)


INSERT INTO system_secret (secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
