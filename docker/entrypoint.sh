#!/usr/bin/env bash
# Entrypoint of every image: a component of a Spark cluster by its name, or any other command unchanged.
#   master | worker MASTER_URL           a standalone cluster; CORES and MEMORY are the worker's
#   driver ARGUMENT... | executor        the roles of pods in Spark's scheduler for Kubernetes
#   await HOST:PORT... -- COMMAND...     the command, when all of them accept connections; WAIT_S=300
# With SPARK_SECRET, the master, workers, drivers and executors log in to each other with it. SPARK_DEFAULTS: a file of
# further settings.
set -euo pipefail

spark_home() {
  python3 -c 'import importlib.util; print(importlib.util.find_spec("pyspark").submodule_search_locations[0])'
}

require_variables() {
  for name in "$@"; do
    [ -n "${!name:-}" ] || { echo "error: the environment variable $name is missing; set it, and start again" >&2; exit 78; }
  done
}

# Write the secret into a file of Spark's settings: a command line, other users could read.
spark_defaults() {
  export SPARK_CONF_DIR=${SPARK_CONF_DIR:-/tmp/spark-conf}
  (
    umask 077
    mkdir -p "$SPARK_CONF_DIR"
    {
      printf '%s\n' 'spark.authenticate true' 'spark.network.crypto.enabled true' 'spark.ui.killEnabled false'
      printf 'spark.authenticate.secret %s\n' "$SPARK_SECRET"
      [ -z "${SPARK_DEFAULTS:-}" ] || cat "$SPARK_DEFAULTS"
    } > "$SPARK_CONF_DIR/spark-defaults.conf"
  )
}

await() {
  local deadline=$((SECONDS + ${WAIT_S:-300})) address
  while [ "$1" != -- ]; do
    address=$1; shift
    until (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; do
      [ "$SECONDS" -lt "$deadline" ] || { echo "error: $address does not answer after ${WAIT_S:-300} s; start it, then try again" >&2; exit 69; }
      sleep 1
    done
  done
  shift
  main "$@"
}

executor() {
  require_variables SPARK_DRIVER_URL SPARK_EXECUTOR_ID SPARK_EXECUTOR_CORES SPARK_EXECUTOR_MEMORY SPARK_APPLICATION_ID \
    SPARK_EXECUTOR_POD_IP SPARK_EXECUTOR_POD_NAME SPARK_RESOURCE_PROFILE_ID
  local options=() name
  # Numbered from 0, in this order.
  for ((number = 0; ; number++)); do
    name="SPARK_JAVA_OPT_$number"
    [ -n "${!name:-}" ] || break
    options+=("${!name}")
  done
  exec java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
    -cp "$SPARK_HOME/conf:${SPARK_CONF_DIR:-$SPARK_HOME/conf}:$SPARK_HOME/jars/*" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
}

main() {
  local role=${1:-}
  [ -z "${SPARK_SECRET:-}" ] || spark_defaults
  case "$role" in
    master | worker | driver | executor) SPARK_HOME=${SPARK_HOME:-$(spark_home)}; export SPARK_HOME; shift ;;
  esac
  case "$role" in
    master) exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master \
      --host "$(hostname)" --port 7077 --webui-port 8080 "$@" ;;
    worker) exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker \
      --cores "${CORES:-2}" --memory "${MEMORY:-3g}" --webui-port 8081 --work-dir /var/lib/gliclass/spark "$@" ;;
    driver) require_variables SPARK_DRIVER_BIND_ADDRESS
      exec "$SPARK_HOME/bin/spark-submit" --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
        --deploy-mode client "$@" ;;
    executor) executor ;;
    await) shift; await "$@" ;;
    "") echo "error: no command; see docker/entrypoint.sh" >&2; exit 64 ;;
    *) exec "$@" ;;
  esac
}

main "$@"
