"""The demo's S3: moto's server with its buckets. It keeps everything in memory, and knows no passwords.

python docker/store/serve.py HOST PORT BUCKET...
"""

from __future__ import annotations

import signal
import sys

import boto3
from moto.server import ThreadedMotoServer


def main(host: str, port: str, *buckets: str) -> None:
    server = ThreadedMotoServer(ip_address=host, port=int(port), verbose=False)
    server.start()
    own = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=own, **keys)
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    print(f"the store is at {own}, with the buckets {', '.join(buckets)}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()


if __name__ == "__main__":
    # Before its threads start: they inherit it, and only sigwait takes the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
