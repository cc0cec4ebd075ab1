"""Airflow plugin: a tab with the run's report on the page of a DAG run."""

from __future__ import annotations

import os

from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from gliclass_spark.airflow import run_pages
from gliclass_spark.airflow.dags.pipeline_files import read_pipelines
from gliclass_spark.airflow.storage import storage_options

_PREFIX = "/gliclass"
# The page may neither run scripts nor fetch anything: what a document brings into it stays text.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"

app = FastAPI(title="gliclass_spark", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/report/{dag_id}/{run_id}", dependencies=[Depends(requires_access_dag("GET"))])
async def report(dag_id: str, run_id: str) -> HTMLResponse:
    """Serve the report of a run to users who may see its DAG."""
    return await run_in_threadpool(_report, dag_id, run_id)


def _report(dag_id: str, run_id: str) -> HTMLResponse:
    pipeline = read_pipelines(os.environ.get("GLICLASS_PIPELINES", "conf/pipelines")).named(dag_id)
    page = run_pages.read(pipeline, run_id, storage_options(pipeline)) if pipeline is not None else None
    if page is None:
        return HTMLResponse("<p>This run has no report yet: its task <em>report</em> writes it.</p>", 404)
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})


class GliclassPlugin(AirflowPlugin):
    name = "gliclass_spark"
    fastapi_apps = [{"app": app, "url_prefix": _PREFIX, "name": "gliclass_spark reports"}]  # noqa: RUF012 - as Airflow declares it
    external_views = [  # noqa: RUF012
        {
            "name": "Report",
            "href": f"{_PREFIX}/report/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "gliclass-report",
        }
    ]
