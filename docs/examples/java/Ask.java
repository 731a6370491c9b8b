// Queries INFaaS with kafka-clients and the wire protocol only.
//
//     INFAAS_KAFKA=127.0.0.1:9092 java -cp "$JARS/*" Ask.java "a wonderful film" "a dull one"
//
// JARS is a folder with org.apache.kafka:kafka-clients, com.fasterxml.jackson.core:jackson-databind and their
// dependencies, for example the one of Apache Kafka; `java` must be from a JDK.
//
// A query is a record in its task's topic. The answer arrives in the topic named by the header `infaas-reply-to` and is
// matched by `infaas-id`. Answers that match no open query (late, repeated or for another process) are ignored.

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sender of queries; any number may be open at once, each with a future of its answer. */
public final class Ask implements AutoCloseable {
    static final String QUERIES = "infaas.tasks.sentiment-text";
    static final String ANSWERS = "reviews.answers";
    static final TopicPartition PARTITION = new TopicPartition(ANSWERS, 0);
    static final Map<String, String> NEEDS = Map.of(
        "infaas-latency-ms", "5000",
        "infaas-min-accuracy", System.getenv().getOrDefault("MIN_ACCURACY", "0.8"));
    /** Longer than the requested latency, so that INFaaS can report a missed deadline itself. */
    static final Duration PATIENCE = Duration.ofSeconds(10);
    static final Set<String> RETRYABLE = Set.of("overloaded", "deadline_exceeded", "quota_exceeded", "internal");
    static final ObjectMapper JSON = new ObjectMapper();

    /** Reason why there is no answer. */
    static final class Failed extends Exception {
        final boolean retryable;
        final Duration after;

        Failed(String reason, boolean retryable, Duration after) {
            super(reason);
            this.retryable = retryable;
            this.after = after;
        }
    }

    private final Map<String, CompletableFuture<JsonNode>> waiting = new ConcurrentHashMap<>();
    private final KafkaProducer<byte[], byte[]> producer;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread reader = new Thread(this::read, "answers");

    Ask(String broker) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", broker);
        // Unlike Apache Kafka, the embedded broker does not end a waiting fetch early for a new record.
        int waitMs = ensureTopic(settings).equals("infaas-embedded") ? 10 : 500;
        producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        settings = Map.of("bootstrap.servers", broker, "fetch.max.wait.ms", waitMs);
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.assign(List.of(PARTITION));
        consumer.seekToEnd(List.of(PARTITION));
        consumer.position(PARTITION, PATIENCE); // before the first query is sent
        reader.start();
    }

    /** Completes with the outputs of the answer, or exceptionally with {@code Failed} or Kafka's error. */
    CompletableFuture<JsonNode> ask(String text) throws Exception {
        String id = UUID.randomUUID().toString();
        var input = Map.of("name", "text", "shape", List.of(1), "datatype", "BYTES", "data", List.of(text));
        byte[] query = JSON.writeValueAsBytes(Map.of("inputs", List.of(input)));
        var record = new ProducerRecord<byte[], byte[]>(QUERIES, query);
        record.headers().add("infaas-id", id.getBytes(UTF_8)).add("infaas-reply-to", ANSWERS.getBytes(UTF_8));
        NEEDS.forEach((name, value) -> record.headers().add(name, value.getBytes(UTF_8)));
        var answer = new CompletableFuture<JsonNode>().orTimeout(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
        waiting.put(id, answer);
        answer.whenComplete((outputs, error) -> waiting.remove(id));
        producer.send(record, (metadata, error) -> {
            if (error != null) answer.completeExceptionally(error); // for example there is no such task, hence no such topic
        });
        return answer;
    }

    private void read() {
        try {
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) take(record);
            }
        } catch (WakeupException closing) {
            consumer.close();
        }
    }

    private void take(ConsumerRecord<byte[], byte[]> record) {
        var answer = waiting.get(header(record.headers(), "infaas-id", ""));
        if (answer == null) return;
        try {
            answer.complete(outputs(record));
        } catch (Exception error) {
            answer.completeExceptionally(error);
        }
    }

    /** Decodes an answer: status and times are headers, the value is a response of the Open Inference Protocol. */
    private static JsonNode outputs(ConsumerRecord<byte[], byte[]> record) throws Exception {
        JsonNode body = JSON.readTree(record.value());
        String status = header(record.headers(), "infaas-status", "");
        if (status.equals("ok")) return body.get("outputs");
        var after = Duration.ofMillis(Long.parseLong(header(record.headers(), "infaas-retry-after-ms", "1000")));
        throw new Failed(status + ": " + body.get("error").asText(), RETRYABLE.contains(status), after);
    }

    private static String header(Headers headers, String name, String otherwise) {
        Header found = headers.lastHeader(name);
        return found == null ? otherwise : new String(found.value(), UTF_8);
    }

    /** Creates the topic of answers, with a retention of one hour; returns the id of the cluster. */
    private static String ensureTopic(Map<String, Object> settings) throws Exception {
        var topic = new NewTopic(ANSWERS, 1, (short) -1).configs(Map.of("retention.ms", "3600000"));
        try (var admin = Admin.create(settings)) {
            try {
                admin.createTopics(List.of(topic)).all().get();
            } catch (ExecutionException error) {
                if (!(error.getCause() instanceof TopicExistsException)) throw error;
            }
            return admin.describeCluster().clusterId().get();
        }
    }

    @Override
    public void close() throws InterruptedException {
        producer.close();
        consumer.wakeup();
        reader.join();
    }

    public static void main(String[] texts) throws Exception {
        boolean failed = false;
        try (var asker = new Ask(System.getenv().getOrDefault("INFAAS_KAFKA", "127.0.0.1:9092"))) {
            var answers = new ArrayList<CompletableFuture<JsonNode>>();
            for (String text : texts) answers.add(asker.ask(text));
            for (int i = 0; i < texts.length; i++) {
                try {
                    System.out.println(texts[i] + ": " + label(answers.get(i).join()));
                } catch (CompletionException error) {
                    failed = true;
                    var reason = error.getCause() instanceof TimeoutException ? "nobody answered" : error.getCause().getMessage();
                    System.err.println(texts[i] + ": " + reason);
                }
            }
        }
        System.exit(failed ? 1 : 0);
    }

    private static String label(JsonNode outputs) {
        for (JsonNode output : outputs) {
            if (output.get("name").asText().equals("label")) return output.get("data").get(0).asText();
        }
        throw new IllegalStateException("no output is called `label`");
    }
}
