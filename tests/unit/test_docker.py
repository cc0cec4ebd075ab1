"""Images without a Docker engine: the Dockerfile linted, files validated against schemas, scripts run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import compose_spec
import httpx
import kubernetes_validate
import pyarrow as pa
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError
from deltalake import DeltaTable, write_deltalake

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.spark import read_conf

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
POD_TEMPLATES = ("driver-pod.yaml", "executor-pod.yaml", "gpu-executor-pod.yaml")
KUBERNETES = kubernetes_validate.latest_version()


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **variables}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=env)


def test_the_dockerfile_linter_reports_nothing() -> None:
    linter = run(Path(sys.executable).with_name("hadolint"), DOCKER / "Dockerfile")
    assert (linter.returncode, linter.stdout) == (0, "")


def test_every_step_of_an_image_is_a_script_of_this_folder() -> None:
    steps = re.findall(r"^RUN (\S+)", DOCKERFILE, re.MULTILINE)
    names = {Path(step).name for step in steps}
    assert names == {"jars.sh", "os.sh", "environment.sh", "servers.sh", "model.sh"}
    assert all((DOCKER / name).stat().st_mode & 0o111 for name in names)


def test_every_image_runs_as_a_user_that_is_not_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    final = {stage.split()[2]: stage for stage in stages if "\nCMD " in stage}
    assert set(final) == {"spark-cpu", "spark-gpu", "airflow", "retrain", "mlflow", "store"}
    assert all("\nUSER 10001:10001\n" in stage and "\nHEALTHCHECK " in stage for stage in final.values())


def test_every_copied_file_exists_and_is_in_the_build_context() -> None:
    included = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in included, source


def test_every_base_and_third_party_image_has_a_version() -> None:
    bases = re.findall(r"^ARG \w*BASE=(\S+)", DOCKERFILE, re.MULTILINE)
    third_party = [image for image in re.findall(r"image: (\S+)", COMPOSE) if not image.startswith("gliclass-spark:")]
    assert len(bases) == 3
    assert len(third_party) == 1
    assert all(re.search(r":[\w.-]*\d+\.\d+", image) and "latest" not in image for image in [*bases, *third_party])


def test_the_jars_are_those_of_the_installed_versions() -> None:
    space = "{http://maven.apache.org/POM/4.0.0}"
    versions = {
        dependency.findtext(f"{space}artifactId"): dependency.findtext(f"{space}version")
        for dependency in ET.parse(DOCKER / "jars" / "pom.xml").iter(f"{space}dependency")  # noqa: S314 - our own file
    }
    constraints = pins(ROOT / "constraints.txt")
    spark = ".".join(constraints["pyspark"].split(".")[:2])
    assert versions[f"delta-spark_{spark}_2.13"] == constraints["delta-spark"]
    pyspark = find_spec("pyspark")
    assert pyspark is not None
    [folder] = pyspark.submodule_search_locations or []
    [hadoop] = Path(folder, "jars").glob("hadoop-client-api-*.jar")
    assert versions["hadoop-aws"] == hadoop.stem.removeprefix("hadoop-client-api-")


def test_server_requirements_are_pinned_and_mlflow_has_the_clients_version() -> None:
    mlflow, store = (pins(DOCKER / name / "requirements.txt") for name in ("mlflow", "store"))
    assert mlflow["mlflow"] == pins(ROOT / "constraints.txt")["mlflow-skinny"]
    assert {"boto3", "psycopg2-binary"} <= mlflow.keys()
    assert {"boto3", "moto"} <= store.keys()


def test_the_compose_file_is_valid() -> None:
    merged = yaml.safe_dump(yaml.safe_load(COMPOSE))
    stack = compose_spec.PyCompose.from_yaml(merged)
    stack.validate()
    assert len(stack.service_names()) == 12


def test_compose_waits_only_for_existing_services_with_health_checks() -> None:
    services: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    for name, service in services.items():
        for dependency, wait in service.get("depends_on", {}).items():
            assert dependency in services, name
            ends = services[dependency].get("healthcheck", {}).get("disable", False)
            assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
    assert {name for name, service in services.items() if service.get("profiles") == ["gpu"]} == {"spark-worker-gpu"}


def test_every_required_variable_is_in_the_example_without_a_value() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    lines = (DOCKER / "example.env").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == {f"{name}=" for name in required}


@pytest.mark.parametrize("name", [*POD_TEMPLATES, "access.yaml", "retrain-job.yaml"])
def test_kubernetes_documents_are_valid(name: str) -> None:
    for document in yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text()):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_the_pods_of_the_operators_application_are_valid(role: str) -> None:
    [application] = yaml.safe_load_all((DOCKER / "kubernetes" / "spark-application.yaml").read_text())
    pod = {"apiVersion": "v1", "kind": "Pod", **application["spec"][role]["template"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def kubernetes_documents() -> list[dict[str, Any]]:
    return [
        document
        for file in sorted((DOCKER / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if "kind" in document
    ]


def test_no_example_has_a_fixed_run_id() -> None:
    """A job that succeeded under an id does nothing when it is run again under it."""
    pages = [*(ROOT / "docs" / "deployment").glob("*.md"), *DOCKER.rglob("*.yaml")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    ids = set(re.findall(r"--run-id[\s,-]+([^\s,`\]]+)", text))
    assert ids == {'"$RUN_ID"', "$(RUN_ID)", "RUN_ID", "{{job.run_id}}"}


def test_drivers_and_executors_log_in_to_each_other() -> None:
    [application] = [document for document in kubernetes_documents() if document["kind"] == "SparkApplication"]
    for settings in (read_conf(DOCKER / "kubernetes" / "spark.yaml"), application["spec"]["sparkConf"]):
        assert settings["spark.authenticate"] == settings["spark.network.crypto.enabled"] == "true"


def test_executors_have_an_account_without_rights_and_no_token() -> None:
    documents = kubernetes_documents()
    bound = [s["name"] for document in documents if document["kind"] == "RoleBinding" for s in document["subjects"]]
    assert bound == ["gliclass-driver"]
    executor = next(document for document in documents if document["metadata"].get("name") == "gliclass-executor")
    assert executor["automountServiceAccountToken"] is False
    [application] = [document for document in documents if document["kind"] == "SparkApplication"]
    assert application["spec"]["executor"]["serviceAccount"] == "gliclass-executor"
    settings = read_conf(DOCKER / "kubernetes" / "spark.yaml")
    assert settings["spark.kubernetes.authenticate.executor.serviceAccountName"] == "gliclass-executor"
    for name in ("executor-pod.yaml", "gpu-executor-pod.yaml"):
        [pod] = yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_the_network_policy_covers_every_pod() -> None:
    documents = kubernetes_documents()
    [policy] = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    label = policy["podSelector"]["matchLabels"]
    assert policy["ingress"][0]["from"][0] == {"podSelector": {"matchLabels": label}}
    [application] = [document["spec"] for document in documents if document["kind"] == "SparkApplication"]
    pods = [document["metadata"]["labels"] for document in documents if document["kind"] == "Pod"]
    assert [*pods, *(application[role]["labels"] for role in ("driver", "executor"))] == [label] * 5


def test_the_files_of_the_stack_are_valid() -> None:
    pipeline = Pipeline.from_yaml(DOCKER / "conf" / "pipelines" / "corpus.yaml")
    retrain = RetrainConfig.from_yaml(DOCKER / "conf" / "retrain" / "corpus.yaml")
    assert retrain.pipeline == pipeline
    assert read_conf(DOCKER / "conf" / "spark.yaml")["spark.master"] == "spark://spark-master:7077"
    assert read_conf(DOCKER / "kubernetes" / "spark.yaml")["spark.master"].startswith("k8s://")


@pytest.mark.parametrize("script", sorted(DOCKER.rglob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_valid_bash_and_stops_at_the_first_error(script: Path) -> None:
    assert run("bash", "-n", script).stderr == ""
    assert "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize("script", ["jars.sh", "environment.sh", "servers.sh"])
def test_a_script_that_creates_a_folder_refuses_an_existing_one(script: str, tmp_path: Path) -> None:
    done = run(DOCKER / script, tmp_path, "mlflow")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} already exists; remove it, or choose another\n"


def test_a_model_is_baked_in_with_its_digest(tiny_bi_encoder: str, tmp_path: Path) -> None:
    done = run(DOCKER / "model.sh", tiny_bi_encoder, GLICLASS_SPARK_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{re.escape(tiny_bi_encoder)} is in the image, with the digest [0-9a-f]{{64}}\n", done.stdout)


def test_a_missing_variable_is_named_in_one_line() -> None:
    done = run(DOCKER / "entrypoint.sh", "driver", "jobs/tag.py")
    assert done.returncode == 78
    assert done.stderr == (
        "error: the environment variable SPARK_DRIVER_BIND_ADDRESS is missing; set it, and start again\n"
    )


def test_any_other_command_is_run_unchanged() -> None:
    assert run(DOCKER / "entrypoint.sh", "echo", "a  b", "*").stdout == "a  b *\n"


def test_await_waits_for_a_server_that_starts_later() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        threading.Timer(1.5, server.listen).start()
        done = run(DOCKER / "entrypoint.sh", "await", f"127.0.0.1:{port}", "--", "echo", "up", WAIT_S="60")
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")


def test_await_ends_with_one_line_if_a_server_stays_down() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(DOCKER / "entrypoint.sh", "await", address, "--", "echo", "up", WAIT_S="1")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"error: {address} does not answer after 1 s; start it, then try again\n"


KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a/secret+key"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Run the demo's object store, and yield its URL."""
    command = [sys.executable, str(DOCKER / "store" / "serve.py"), "127.0.0.1", "0", "lake"]
    with subprocess.Popen(command, env={**os.environ, **KEYS}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"at (\S+), with", process.stdout.readline())
        assert found
        yield found[1]
        process.terminate()


def s3(url: str, key: str = KEYS["AWS_ACCESS_KEY_ID"], secret: str = KEYS["AWS_SECRET_ACCESS_KEY"]) -> Any:
    names = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, config=Config(signature_version="s3v4"), **names)


def test_the_demos_store_takes_requests_that_are_signed_with_its_keys(store: str) -> None:
    name, client = "a b/ü=1+2%~.txt", s3(store)
    client.put_object(Bucket="lake", Key=name, Body=b"text")
    assert client.get_object(Bucket="lake", Key=name)["Body"].read() == b"text"
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="lake", Prefix="a b/")["Contents"]] == [name]
    options = {**KEYS, "AWS_ENDPOINT_URL": store, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    write_deltalake("s3://lake/table", pa.table({"id": [1, 2]}), storage_options=options)
    assert DeltaTable("s3://lake/table", storage_options=options).count() == 2


def presigned(store: str, seconds: int, **keys: str) -> str:
    url: str = s3(store, **keys).generate_presigned_url(
        "get_object", {"Bucket": "lake", "Key": "a b/ü"}, ExpiresIn=seconds
    )
    return url


def test_the_demos_store_takes_presigned_urls_until_they_expire(store: str) -> None:
    s3(store).put_object(Bucket="lake", Key="a b/ü", Body=b"text")
    url = presigned(store, 60)
    assert httpx.get(url, headers={"Range": "bytes=0-1"}).text == "te"
    for refused in (presigned(store, -60), presigned(store, 60, secret="another"), url.replace("a%20b", "a%20c")):
        assert httpx.get(refused).status_code == 403


@pytest.mark.parametrize(("key", "secret"), [("a-key", "another"), ("another", "a/secret+key")])
def test_the_demos_store_refuses_other_keys(store: str, key: str, secret: str) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        s3(store, key, secret).list_objects_v2(Bucket="lake")


@pytest.mark.parametrize("path", ["/", "/lake", "/lake/table?list-type=2", "/moto-api/data.json"])
def test_the_demos_store_refuses_unsigned_requests(store: str, path: str) -> None:
    assert httpx.get(f"{store}{path}").status_code == 403
    assert httpx.get(f"{store}/health").status_code == 200


def test_every_server_of_the_stack_asks_for_a_login() -> None:
    services: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    assert services["mlflow"]["command"][2:4] == ["--app-name", "basic-auth"]
    assert {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"} <= services["mlflow"]["environment"].keys()
    spark = {name: service for name, service in services.items() if name.startswith(("spark-", "airflow-"))}
    assert [name for name, service in spark.items() if "SPARK_SECRET" not in service["environment"]] == []
    assert services["store"]["environment"].keys() >= KEYS.keys()


def test_the_secret_of_spark_is_in_a_file_that_only_its_user_reads(tmp_path: Path) -> None:
    variables = {
        "SPARK_SECRET": "a secret",
        "SPARK_CONF_DIR": str(tmp_path / "conf"),
        "SPARK_DEFAULTS": str(DOCKER / "conf" / "gpu_worker.conf"),
    }
    done = run(DOCKER / "entrypoint.sh", "echo", "up", **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
    file = tmp_path / "conf" / "spark-defaults.conf"
    assert file.stat().st_mode & 0o077 == 0
    settings = dict(line.split(" ", 1) for line in file.read_text().splitlines())
    assert settings["spark.authenticate"] == "true"
    assert settings["spark.authenticate.secret"] == "a secret"
    assert settings["spark.worker.resource.gpu.amount"] == "1"


@contextmanager
def serving(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "status", "body", "message"),
    [
        ("/health", 200, b"OK", ""),
        ("/health", 503, b"", "does not answer: HTTP Error 503"),
        ("/api/v2/monitor/health", 200, b'{"metadatabase": {"status": "healthy"}, "triggerer": {"status": null}}', ""),
        (
            "/api/v2/monitor/health",
            200,
            b'{"metadatabase": {"status": "unhealthy"}}',
            "reports {'metadatabase': 'unhealthy'}",
        ),
    ],
)
def test_a_health_check_reports_the_problem(path: str, status: int, body: bytes, message: str) -> None:
    with serving(status, body) as url:
        done = run(sys.executable, DOCKER / "healthy.py", f"{url}{path}")
    assert (done.returncode == 0) == (message == "")
    assert message in done.stderr


def test_a_health_check_without_a_server_is_one_line() -> None:
    done = run(sys.executable, DOCKER / "healthy.py", "http://127.0.0.1:9/health")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
