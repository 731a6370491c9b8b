// Queries INFaaS with kafkajs and the wire protocol only.
//
//     npm ci
//     INFAAS_KAFKA=127.0.0.1:9092 node ask.js "a wonderful film" "a dull one"
//
// A query is a record in its task's topic. The answer arrives in the topic named by the header `infaas-reply-to` and is
// matched by `infaas-id`. Answers that match no open query (late, repeated or for another process) are ignored.

import { randomUUID } from "node:crypto";
import { Kafka, Partitioners, logLevel } from "kafkajs";

const QUERIES = "infaas.tasks.sentiment-text";
const ANSWERS = "reviews.answers";
const NEEDS = { "infaas-latency-ms": "5000", "infaas-min-accuracy": process.env.MIN_ACCURACY ?? "0.8" };
// Longer than the requested latency, so that INFaaS can report a missed deadline itself.
const PATIENCE_MS = 10_000;
const RETRYABLE = new Set(["overloaded", "deadline_exceeded", "quota_exceeded", "internal"]);

/** Reason why there is no answer; `retryAfterMs` is the pause before a retry, undefined if a retry is useless. */
class Failed extends Error {
  constructor(reason, retryAfterMs) {
    super(reason);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Sender of queries; any number may be open at once, each with a promise of its answer. */
class Asker {
  #waiting = new Map(); // functions that receive the answer, by id

  constructor(broker) {
    this.kafka = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR });
    this.admin = this.kafka.admin();
    this.producer = this.kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    // kafkajs reads only in consumer groups: each process needs its own, so that it receives all answers.
    this.group = `reviews.answers.${randomUUID()}`;
  }

  async open() {
    await this.admin.connect();
    if (!(await this.admin.listTopics()).includes(ANSWERS)) {
      const configEntries = [{ name: "retention.ms", value: "3600000" }]; // one hour
      await this.admin.createTopics({ topics: [{ topic: ANSWERS, numPartitions: 1, configEntries }] });
    }
    // Unlike Apache Kafka, the embedded broker does not end a waiting fetch early for a new record.
    const { clusterId } = await this.admin.describeCluster();
    const maxWaitTimeInMs = clusterId === "infaas-embedded" ? 10 : 5000;
    this.consumer = this.kafka.consumer({ groupId: this.group, maxWaitTimeInMs });
    const ends = await this.admin.fetchTopicOffsets(ANSWERS); // before the first query is sent
    await Promise.all([this.producer.connect(), this.consumer.connect()]);
    await this.consumer.subscribe({ topic: ANSWERS });
    // `run` does not wait until the group is joined, which takes seconds for its first member.
    const joined = new Promise((resolve) => this.consumer.on(this.consumer.events.GROUP_JOIN, resolve));
    await this.consumer.run({ autoCommit: false, eachMessage: async ({ message }) => this.#take(message) });
    for (const { partition, high } of ends) this.consumer.seek({ topic: ANSWERS, partition, offset: high });
    await joined;
  }

  async close() {
    await Promise.all([this.producer.disconnect(), this.consumer.disconnect()]);
    await this.admin.deleteGroups([this.group]);
    await this.admin.disconnect();
  }

  /** Resolves to the outputs by name; rejects with `Failed`. */
  async ask(text) {
    const id = randomUUID();
    const query = { inputs: [{ name: "text", shape: [1], datatype: "BYTES", data: [text] }] };
    const headers = { "infaas-id": id, "infaas-reply-to": ANSWERS, ...NEEDS };
    const answer = this.#expect(id);
    try {
      await this.producer.send({ topic: QUERIES, acks: -1, messages: [{ value: JSON.stringify(query), headers }] });
    } catch (error) {
      // For example there is no such task, hence no such topic.
      this.#waiting.get(id)?.(new Failed(`Kafka does not take the query: ${error.message}`));
    }
    return answer;
  }

  #expect(id) {
    return new Promise((resolve, reject) => {
      const settle = (found) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        if (found instanceof Failed) reject(found);
        else resolve(found);
      };
      const timer = setTimeout(() => settle(new Failed("nobody answered", 1000)), PATIENCE_MS);
      this.#waiting.set(id, settle);
    });
  }

  #take({ headers, value }) {
    this.#waiting.get(headers["infaas-id"]?.toString())?.(read(headers, value));
  }
}

/** Decodes an answer: status and times are headers, the value is a response of the Open Inference Protocol. */
function read(headers, value) {
  const status = headers["infaas-status"].toString();
  const body = JSON.parse(value);
  if (status === "ok") return Object.fromEntries(body.outputs.map(({ name, data }) => [name, data]));
  const afterMs = Number(headers["infaas-retry-after-ms"]?.toString() ?? 1000);
  return new Failed(`${status}: ${body.error}`, RETRYABLE.has(status) ? afterMs : undefined);
}

const asker = new Asker(process.env.INFAAS_KAFKA ?? "127.0.0.1:9092");
const texts = process.argv.slice(2);
await asker.open();
try {
  const answers = await Promise.allSettled(texts.map((text) => asker.ask(text)));
  for (const [number, { value, reason }] of answers.entries()) {
    if (reason) console.error(`${texts[number]}: ${reason.message}`);
    else console.log(`${texts[number]}: ${value.label[0]}`);
  }
  process.exitCode = answers.some(({ status }) => status === "rejected") ? 1 : 0;
} finally {
  await asker.close();
}
