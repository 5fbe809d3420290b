"""TLS contexts: which certificate authorities are trusted, and the client certificate."""

import ssl
from pathlib import Path

from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.errors import ConfigError


def tls_context(options: NetworkOptions) -> ssl.SSLContext:
    """Return a context for the API. Raises ConfigError if a file cannot be used."""
    context = _trusting(options.ca_file)
    # With SSLKEYLOGFILE, the API key could be read from recorded network traffic.
    context.keylog_filename = None  # type: ignore[assignment]
    if options.client_cert is not None:
        _load_client_certificate(context, options.client_cert, options.client_key)
    return context


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of a file, of SSL_CERT_FILE, or of the system."""
    if ca_file is None:
        import httpx2  # `plan` loads this module, but makes no context

        try:
            return httpx2.create_ssl_context()
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used ({_reason(exc)})", "correct it") from exc
    _require_readable("--ca-file", ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as exc:
        raise ConfigError(f"--ca-file: {ca_file} holds no certificate in PEM form", "export it as PEM") from exc


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    _require_readable("--client-cert", certificate)
    if key is not None:
        _require_readable("--client-key", key)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_encrypted)
    except _EncryptedKeyError as exc:
        what = f"the client key in {key or certificate} is encrypted"
        raise ConfigError(what, "give one without a passphrase, which only you can read") from exc
    except ssl.SSLError as exc:
        what = f"--client-cert: certificate and key do not fit or are not PEM ({_reason(exc)})"
        raise ConfigError(what, "check --client-cert and --client-key") from exc


class _EncryptedKeyError(Exception):
    """Raised when OpenSSL asks for the passphrase of a key. An unattended run cannot answer."""


def _refuse_encrypted() -> bytes:
    raise _EncryptedKeyError


def _require_readable(option: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except OSError as exc:
        raise ConfigError(f"{option}: cannot read {file} ({exc.strerror})", "check the path") from exc


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc)
