#!/bin/sh
# Runs embeddings.sql in a Flink of its own, in one process, against a system that has the task `sentences`:
#
#   infaas up & infaas register --zoo sentences
#   INFAAS_GATEWAY=http://127.0.0.1:8080 INFAAS_KAFKA=127.0.0.1:9092 docs/examples/flink/run.sh
#
# Needs Java 11 or 17, Maven, and a python3 with pip and infaas. 700 MB go to FLINK_HOME: Flink's jars from PyPI, the model provider and Kafka's
# connector from Maven Central.
set -eu

FLINK=2.2.0
CONNECTOR=5.0.0-2.2
here=$(cd "$(dirname "$0")" && pwd)
home=${FLINK_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/infaas-flink-$FLINK}
export INFAAS_GATEWAY="${INFAAS_GATEWAY:-http://127.0.0.1:8080}" INFAAS_KAFKA="${INFAAS_KAFKA:-127.0.0.1:9092}" \
  INFAAS_KEY="${INFAAS_KEY:-none}"

if [ ! -d "$home/pyflink" ]; then
  mkdir -p "$home"
  python3 -m pip install --quiet --no-deps --target "$home" "apache-flink-libraries==$FLINK"
fi
for jar in flink-sql-gateway:$FLINK flink-model-openai:$FLINK flink-sql-connector-kafka:$CONNECTOR; do
  mvn --quiet --batch-mode dependency:copy -Dartifact="org.apache.flink:$jar" -DoutputDirectory="$home/jars"
done

# Kafka of `infaas up` creates no topics by itself.
python3 - <<END
from confluent_kafka.admin import AdminClient, NewTopic
admin = AdminClient({"bootstrap.servers": "$INFAAS_KAFKA"})
made = admin.create_topics([NewTopic(name, 1, 1) for name in ("flink.reviews", "flink.vectors")])
for topic in made.values():
    error = topic.exception(30)
    assert error is None or error.args[0].name() == "TOPIC_ALREADY_EXISTS", error
END

# The SQL client replaces no variables itself.
script=$(mktemp)
trap 'rm -f "$script"' EXIT
python3 -c 'import os, sys; print(os.path.expandvars(sys.stdin.read()))' < "$here/embeddings.sql" > "$script"
mkdir -p "$home/conf"
printf 'execution.target: local\ntaskmanager.numberOfTaskSlots: 4\n' > "$home/conf/config.yaml"
FLINK_CONF_DIR="$home/conf" java --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED \
  -Dlog4j2.level=ERROR -cp "$home/pyflink/lib/*:$home/pyflink/opt/*:$home/jars/*" \
  org.apache.flink.table.client.SqlClient embedded -f "$script"
