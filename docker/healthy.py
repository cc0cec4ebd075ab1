"""A health check that needs no curl: python docker/healthy.py URL. Of Airflow, every part must say that it is well."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

_PATIENCE_S = 5


def problem(url: str) -> str | None:
    """What is wrong at the address; None if it answers."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 - the image's own address
            body = answer.read()
    except (urllib.error.URLError, OSError) as error:
        return f"{url} does not answer: {error}"
    if "/monitor/health" not in url:
        return None
    parts = {name: part.get("status") for name, part in json.loads(body).items() if isinstance(part, dict)}
    ill = {name: status for name, status in parts.items() if status not in ("healthy", None)}
    return f"{url} says {ill}" if ill else None


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1]))
