-- Problems with a topic of work: the total number of records deleted before they were processed, or too many bytes.
CREATE TABLE topic_alarms (
    topic text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('lost', 'large')),
    at timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (topic, kind)
)


-- As before, with the additional health `lost`.
CREATE OR REPLACE VIEW lag_samples AS
SELECT
    r.at, p.consumer_group, p.topic, p.partition,
    NULLIF(e.end_offset, -1) AS end_offset,
    CASE WHEN e.committed >= 0 THEN e.committed END AS committed,
    CASE WHEN e.lag >= 0 THEN e.lag END AS lag,
    CASE
        WHEN e.lag = 0 THEN 0
        WHEN e.since_s <> 'NaN' THEN GREATEST(EXTRACT(EPOCH FROM r.at) - e.since_s, 0)
    END AS lag_s,
    (ARRAY['unknown', 'ok', 'lagging', 'stalled', 'stopped', 'rewound', 'lost'])[e.health + 1] AS health
FROM lag_readings AS r
CROSS JOIN LATERAL unnest(r.group_partitions, r.end_offsets, r.committed, r.lags, r.since_s, r.healths)
    AS e (place, end_offset, committed, lag, since_s, health)
JOIN group_partitions AS p ON p.id = e.place
