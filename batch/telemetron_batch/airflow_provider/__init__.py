"""What Airflow needs to run batches as tasks: a connection type, a hook, operators, example DAGs.

The only part of the program that knows Airflow, and nothing else imports it; it comes with
the extra `airflow`. Airflow reads the description below in every process, so this module
imports nothing at all.
"""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The entry point `apache_airflow_provider`: what there is, by the names of Airflow's own schema."""
    return {
        "package-name": "telemetron-batch",
        "name": "Telemetron",
        "description": "Bulk device assignments for Telemetron, with a reconciliation that accounts for every row.",
        "connection-types": [
            {
                "connection-type": "telemetron",
                "hook-class-name": "telemetron_batch.airflow_provider.hooks.TelemetronHook",
                "hook-name": "Telemetron",
                "conn-fields": {
                    "rate": _text("Rate", "Ceiling on attempts: N/s, N/min, N/h or auto. Default 10/s."),
                    "concurrency": _text("Concurrency", "Calls in flight. Default 8."),
                    "chunk_size": _text("Chunk size", "Devices a call. Default 500."),
                    "timeout": _text("Timeout", "Seconds for one attempt. Default 30."),
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema"],
                    "relabeling": {"host": "Base URL", "password": "API key"},
                    "placeholders": {"host": "https://admin.telemetron.ai/api/ext-v1"},
                },
            }
        ],
        "extra-links": ["telemetron_batch.airflow_provider.base.ReportLink"],
    }


def _text(label: str, description: str) -> dict[str, Any]:
    """A field of the connection's form. Airflow 3.1 shows none, so each has a default elsewhere."""
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "default": None}}
