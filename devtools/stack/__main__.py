"""`make stack`: start all of it, run a night and a retraining through it, then leave it to Airflow."""

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
    parser.add_argument("--port", type=int, default=8080, help="of Airflow")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the folder that holds dags/, jobs/ and conf/")
    parser.add_argument("--home", type=Path, help="where the stack keeps what it has; default: .stack in the root")
    parser.add_argument("--once", action="store_true", help="end after the retraining, without Airflow")
    options = parser.parse_args(argv)
    root = options.root.absolute()
    home = (options.home or root / ".stack").absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Starting PostgreSQL, the store, MLflow and Spark; their logs are in {home}", flush=True)
    try:
        with stack(root, home) as running:
            print(
                f"Spark:    {running.cluster.master_url}, two workers\nMLflow:   {running.env['MLFLOW_TRACKING_URI']}",
                flush=True,
            )
            circle(running, root)
            if options.once:
                return 0
            with airflow(root, home, options.port, running) as started:
                print(f"Airflow:  {started.address}\nLog in as admin, with the password {started.password}")
                print("Trigger the DAG corpus, or corpus.retrain. Ctrl-C ends all of it.", flush=True)
                return started.process.wait()
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def circle(running: Stack, root: Path) -> None:
    """A night, reviews, a retraining and the night after it, by gliclass-spark. Raises StackError."""
    files = ["--config", str(running.conf / "retrain" / "corpus.yaml"), "--conf", str(running.conf / "spark.yaml")]
    command = [str(Path(sys.executable).with_name("gliclass-spark")), "retrain-demo", *files]
    code = subprocess.run(command, env=dict(running.env), cwd=root, check=False).returncode  # noqa: S603 - our own
    if code:
        raise StackError(f"gliclass-spark retrain-demo ended with {code}; it says above why")


if __name__ == "__main__":
    sys.exit(main())
