-- Removals that were asked of a gateway: each is done by one of them, and by another where that one ends meanwhile.
CREATE TABLE removals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    request jsonb NOT NULL,
    -- Who asked, with the rights that they had.
    principal jsonb NOT NULL,
    actor text NOT NULL,
    origin text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    -- How far it is.
    done integer NOT NULL DEFAULT 0,
    total integer NOT NULL DEFAULT 0,
    step text NOT NULL DEFAULT '',
    -- What came of it.
    error text NOT NULL DEFAULT '',
    report jsonb,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When whoever does it said so last.
    beat_at timestamptz,
    ended_at timestamptz
)


-- The same, asked twice by the same, is the same.
CREATE UNIQUE INDEX removals_open ON removals (name, actor) WHERE state IN ('waiting', 'running')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON removals
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_removals', 'id')
