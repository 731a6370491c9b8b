-- Removals requested at a gateway. One gateway executes each; if that gateway ends, another one continues.
CREATE TABLE removals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    request jsonb NOT NULL,
    -- Principal that requested it, with its rights at that time.
    principal jsonb NOT NULL,
    actor text NOT NULL,
    origin text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    -- Progress.
    done integer NOT NULL DEFAULT 0,
    total integer NOT NULL DEFAULT 0,
    step text NOT NULL DEFAULT '',
    -- Outcome.
    error text NOT NULL DEFAULT '',
    report jsonb,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Last heartbeat of the executing gateway.
    beat_at timestamptz,
    ended_at timestamptz
)


-- A repeated request of the same actor refers to the same removal.
CREATE UNIQUE INDEX removals_open ON removals (name, actor) WHERE state IN ('waiting', 'running')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON removals
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_removals', 'id')
