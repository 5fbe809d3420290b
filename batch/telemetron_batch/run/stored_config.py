"""The configuration of a run that is continued or verified: as it was started, with the caller's key and API."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from telemetron_batch.config.airflow_context import context_variables
from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.key_source import KEY_OPTIONS, KeySource
from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS, OPTIONS_BY_KEY
from telemetron_batch.config.sources import PROFILE_VARIABLES
from telemetron_batch.config.stored import CALLER_OPTIONS, load_stored_config, with_access
from telemetron_batch.journal.facts import Fact
from telemetron_batch.run.locking import require_run, stored_facts
from telemetron_batch.run.requirements import is_redacted


def continued_config(folder: Path, environ: Mapping[str, str], retry_command: str) -> RunConfig:
    """Return the configuration that a run was started with, with the caller's key.

    The caller's base URL must mean the API of the run, else ConfigError; `retry_command` is the command for the advice.
    """
    require_run(folder)
    options, base_url_flag = stored_facts(folder, Fact.OPTIONS, Fact.BASE_URL_FLAG)
    keep = {name: environ[name] for name in (KEY_VARIABLE,) if name in environ} | context_variables(environ)
    variable = OPTIONS_BY_KEY["limit_url"].variable
    if is_redacted(options.get("limit_url", "")) and environ.get(variable):
        options["limit_url"] = environ[variable]
    options |= _given_now(environ)
    wanted = resolve((), {"sandbox": True}, _naming(CALLER_OPTIONS, environ))
    key_source = KeySource() if options.get("sandbox") else _key_source_of_caller(environ)
    if key_source.is_command:
        options.pop("api_key_file", None)
        keep.pop(KEY_VARIABLE, None)
    config = with_access(load_stored_config(folder, options, keep), wanted.sending, retry_command)
    if key_source.is_command or not config.key_source.is_given:
        config = replace(config, key_source=key_source)
    return replace(config, base_url_flag=base_url_flag, notices=wanted.notices)


def _key_source_of_caller(environ: Mapping[str, str]) -> KeySource:
    """Return where the environment, or the profile that it names, says the key is."""
    named = _naming(KEY_OPTIONS, environ) | {name: environ[name] for name in (KEY_VARIABLE,) if name in environ}
    return resolve((), {}, named).key_source


def _given_now(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the environment that override the recorded ones."""
    given = {one.key: environ.get(one.variable) for one in OPTIONS if one.for_resume and one.key not in CALLER_OPTIONS}
    return {key: text for key, text in given.items() if text}


def _naming(keys: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return only the variables of these options, and those that name a profile."""
    names = (*(OPTIONS_BY_KEY[key].variable for key in keys), *PROFILE_VARIABLES)
    return {name: environ[name] for name in names if name in environ}
