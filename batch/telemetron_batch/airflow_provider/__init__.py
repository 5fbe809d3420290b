"""The Airflow provider: a connection type, a hook, operators and example DAGs. Needs the extra `airflow`.

Airflow imports this module in every process, so it imports nothing itself. No other package imports Airflow.
"""

from typing import Any, Final

_HERE: Final = "telemetron_batch.airflow_provider"
_SERVICE: Final = "https://admin.telemetron.ai"
_INTEGRATION: Final = "Telemetron"
UI_FIELD_BEHAVIOUR: Final[dict[str, Any]] = {
    "hidden-fields": ["login", "port", "schema"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {"host": "https://admin.telemetron.ai/api/ext-v1"},
}


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider, for the entry point `apache_airflow_provider`."""
    return {
        "package-name": "telemetron-batch",
        "name": "Telemetron",
        "description": "Bulk device assignments for Telemetron, with a reconciliation that accounts for every row.",
        "integrations": [{"integration-name": _INTEGRATION, "external-doc-url": _SERVICE, "tags": ["service"]}],
        "operators": [_modules("operators", "shards")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers")],
        "notifications": [f"{_HERE}.notifications.TelemetronNotifier"],
        "task-decorators": [{"name": "telemetron_batch", "class-name": f"{_HERE}.decorators.telemetron_batch_task"}],
        "connection-types": [
            {
                "connection-type": "telemetron",
                "hook-class-name": f"{_HERE}.hooks.TelemetronHook",
                "hook-name": "Telemetron",
                "conn-fields": {name: _field(**one) for name, one in connection_fields().items()},
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "extra-links": [f"{_HERE}.links.ReportLink"],
        "config": {
            "telemetron": {
                "description": "Defaults of the tasks of Telemetron.",
                "options": {
                    "reports_dir": {
                        "description": "Folder of the reports of tasks that name none; all workers must share it.",
                        "version_added": "1.0.0",
                        "type": "string",
                        "example": "/shared/telemetron",
                        "default": "",
                    }
                },
            }
        },
    }


def connection_fields() -> dict[str, dict[str, str]]:
    """Return label and description of the fields of the connection form that are keys of the extra."""
    texts = {
        "rate": ("Rate", "Maximum rate of attempts: N/s, N/min, N/h or auto. Default 10/s."),
        "concurrency": ("Concurrency", "Maximum calls in flight. Default 8."),
        "chunk_size": ("Chunk size", "Maximum devices per call. Default 500."),
        "timeout": ("Timeout", "Seconds for each attempt. Default 30."),
        "reports_url": ("Reports URL", "URL at which a browser finds the folder of reports, for the link of a task."),
    }
    return {name: {"label": label, "description": description} for name, (label, description) in texts.items()}


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": _INTEGRATION, "python-modules": [f"{_HERE}.{name}" for name in names]}


def _field(label: str, description: str) -> dict[str, Any]:
    """Return a field of the connection form. The defaults are elsewhere: a connection may be made without the form."""
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "default": None}}
