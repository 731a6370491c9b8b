-- Vectors of texts from a Kafka topic to a Kafka topic, by a model that INFaaS chooses for each query.
-- `run.sh` runs this file; a session of your own Flink needs the two jars that it names.

CREATE MODEL sentences
INPUT (`text` STRING)
OUTPUT (`vector` ARRAY<FLOAT>)
WITH (
  'provider' = 'openai',
  'endpoint' = '${INFAAS_GATEWAY}/v1/embeddings',
  'api-key' = '${INFAAS_KEY}',
  'model' = 'sentences'
);

CREATE TABLE reviews (`id` STRING, `text` STRING) WITH (
  'connector' = 'kafka',
  'topic' = 'flink.reviews',
  'properties.bootstrap.servers' = '${INFAAS_KAFKA}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset', -- reads what is there, and ends; leave it out to go on
  'format' = 'json'
);

CREATE TABLE vectors (`id` STRING, `text` STRING, `vector` ARRAY<FLOAT>) WITH (
  'connector' = 'kafka',
  'topic' = 'flink.vectors',
  'properties.bootstrap.servers' = '${INFAAS_KAFKA}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'json'
);

SET 'table.dml-sync' = 'true';

INSERT INTO reviews VALUES
  ('1', 'a wonderful film'), ('2', 'a moving, beautiful story'), ('3', 'dull and far too long'), ('4', 'terrible');

INSERT INTO vectors
SELECT `id`, `text`, `vector` FROM ML_PREDICT(TABLE reviews, MODEL sentences, DESCRIPTOR(`text`));

SET 'sql-client.execution.result-mode' = 'tableau';

SELECT `id`, `text`, CARDINALITY(`vector`) AS dimensions, ROUND(`vector`[1], 3) AS `first` FROM vectors;
