"""Health check without curl: python docker/healthy.py URL. For Airflow, every component must be healthy."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

_TIMEOUT_S = 5


def problem(url: str) -> str | None:
    """Return why the URL is unhealthy, None if it is healthy."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - the image's own server
            body = response.read()
    except (urllib.error.URLError, OSError) as error:
        return f"{url} does not answer: {error}"
    if "/monitor/health" not in url:
        return None
    components = {
        name: component.get("status") for name, component in json.loads(body).items() if isinstance(component, dict)
    }
    unhealthy = {name: status for name, status in components.items() if status not in ("healthy", None)}
    return f"{url} reports {unhealthy}" if unhealthy else None


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1]))
