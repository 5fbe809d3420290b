"""The Airflow provider: a connection type, a hook, operators and example DAGs. Needs the extra `airflow`.

Airflow imports this module in every process, so it imports nothing itself. No other package imports Airflow.
"""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider, for the entry point `apache_airflow_provider`."""
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
                    "rate": _text("Rate", "Maximum rate of attempts: N/s, N/min, N/h or auto. Default 10/s."),
                    "concurrency": _text("Concurrency", "Maximum calls in flight. Default 8."),
                    "chunk_size": _text("Chunk size", "Maximum devices per call. Default 500."),
                    "timeout": _text("Timeout", "Seconds for each attempt. Default 30."),
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
    """Return a field of the connection form. Airflow 3.1 shows no such fields, so the defaults are elsewhere."""
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "default": None}}
