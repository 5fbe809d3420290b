"""The options about notices of a command whose other options cannot be used."""

from collections.abc import Mapping
from typing import Any

from telemetron_batch.config.config import ProblemCollector, notice_options
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.notices import OPTION_KEYS, NoticeOptions
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.config.sources import PROFILE_VARIABLE, load_profile, raw_value
from telemetron_batch.domain.errors import ConfigError


def usable_notice_options(flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[NoticeOptions, NetworkOptions]:
    """Return who hears of a refused command, and the way there, as far as these options can be read.

    An option that is wrong, or a profile that cannot be read, counts as not given.
    """
    try:
        profile, where = load_profile(flags, environ)
    except ConfigError:
        profile, where = {}, ""
    values: dict[str, Any] = {}
    for key in (*OPTION_KEYS, *NetworkOptions.__slots__):
        option, problems = OPTIONS_BY_KEY[key], ProblemCollector()
        source, texts = raw_value(option, flags, environ, profile, where)
        value = None if texts is None else problems.read(option, source, texts)
        is_unusable = value is None or (problems.found and not option.repeatable)
        values[key] = (() if option.repeatable else option.default) if is_unusable else value
    name = flags.get("profile") or environ.get(PROFILE_VARIABLE)
    network = NetworkOptions(**{key: values[key] for key in NetworkOptions.__slots__})
    return notice_options(values, name), network
