"""The configuration of an existing run, from the options in its journal."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig, SendOptions, resolve
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.notices import OPTION_KEYS as NOTICE_KEYS
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.shell import quote

ACCESS_OPTIONS: Final = ("base_url", *NetworkOptions.__slots__)
"""Options that say where the key goes; a journal does not decide that."""
CALLER_OPTIONS: Final = frozenset({*ACCESS_OPTIONS, *NOTICE_KEYS})
"""Options that are those of the command itself, never those of a journal."""
NOT_FROM_JOURNALS: Final = frozenset({*NetworkOptions.__slots__, *NOTICE_KEYS, "api_key_command"})
"""Options that are never taken from a journal: they could lead the key to a foreign proxy, or run a command.

It holds URLs of notices without their credentials.
"""


def load_stored_config(
    folder: Path, options: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, with_key: bool = True
) -> RunConfig:
    """Return the configuration of the run in this folder. Raises ConfigError.

    Pass `with_key=False` for commands that need no key: the key file may no longer exist. Options of the network are
    not taken from a journal: see `with_access`. Nor are the command that gives the key, and who hears how a run ends.
    """
    flags = {key: value for key, value in options.items() if key not in NOT_FROM_JOURNALS}
    if not with_key:
        flags["api_key_file"] = None
    config = resolve((), flags, environ or {})
    return replace(config, reports_dir=folder.parent, run_id=folder.name, base_url_flag=None)


def with_access(config: RunConfig, wanted: SendOptions, command: str) -> RunConfig:
    """Return the configuration with the base URL and the network options that the caller wants.

    The base URL must be that of the run's API: a base URL from a journal must never receive the key. Raises
    ConfigError for another API; its advice is the whole `command` with the `--base-url` of the run.
    """
    url = config.sending.base_url
    if config.sandbox:
        return config
    if api_identity(url) != api_identity(wanted.base_url):
        what = f"run {config.run_id} was started with --base-url {url}, and this command would ask {wanted.base_url}"
        raise ConfigError(what, f"if the key may go there, run: {command} --base-url {quote(url)}")
    return replace(config, sending=replace(config.sending, base_url=wanted.base_url, network=wanted.network))
