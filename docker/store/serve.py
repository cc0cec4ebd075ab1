"""The demo's object store: moto's S3 server with its buckets, in memory and without authentication.

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
    url = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    print(f"the object store is at {url}, with the buckets {', '.join(buckets)}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()


if __name__ == "__main__":
    # Before the threads start, which inherit the mask: only sigwait receives the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
