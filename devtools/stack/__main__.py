"""`make stack`: start all services, run the pipeline and a retraining on them, then start Airflow."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from devtools.stack.servers import Stack, airflow, stack
from gliclass_spark.errors import GliclassSparkError, StackError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="Airflow's port")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the folder that holds dags/, jobs/ and conf/")
    parser.add_argument("--home", type=Path, help="the folder of the stack's data; default: .stack in the root")
    parser.add_argument("--once", action="store_true", help="stop after the retraining, without Airflow")
    options = parser.parse_args(argv)
    root = options.root.absolute()
    home = (options.home or root / ".stack").absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Starting PostgreSQL, the object store, MLflow and Spark; their logs are in {home}", flush=True)
    try:
        with stack(root, home) as running:
            print(
                f"Spark:    {running.cluster.master_url}, two workers\nMLflow:   {running.env['MLFLOW_TRACKING_URI']}; "
                f"log in as {running.env['MLFLOW_TRACKING_USERNAME']}, with the password `registry` of "
                f"{home / 'secrets.json'}",
                flush=True,
            )
            run_demo(running, root)
            if options.once:
                return 0
            with airflow(root, home, options.port, running) as started:
                print(f"Airflow:  {started.url}\nLog in as admin, with the password {started.password}")
                print("Trigger the DAG corpus, or corpus.retrain. Ctrl-C stops everything.", flush=True)
                return started.process.wait()
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run_demo(running: Stack, root: Path) -> None:
    """Run the pipeline, ingest reviews, retrain, and run the pipeline again. Raises StackError if a step fails."""
    files = ["--config", str(running.conf / "retrain" / "corpus.yaml"), "--conf", str(running.conf / "spark.yaml")]
    command = [str(Path(sys.executable).with_name("gliclass-spark")), "retrain-demo", *files]
    code = subprocess.run(command, env=dict(running.env), cwd=root, check=False).returncode  # noqa: S603
    if code:
        raise StackError(f"gliclass-spark retrain-demo ended with {code}; see its output above")


if __name__ == "__main__":
    sys.exit(main())
