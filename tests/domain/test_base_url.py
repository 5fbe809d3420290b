"""All spellings of a base URL have one identity; requests go to the given host."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.config.option_values import DEFAULT_BASE_URL
from telemetron_batch.domain.base_url import api_identity, is_loopback, normalized
from tests.config.test_config import refused, resolved

ONE_API = [
    ("HTTPS://Api.Example/V1", "https://api.example/V1"),
    ("https://api.example:443/v1", "https://api.example/v1"),
    ("http://localhost:80/v1", "http://localhost/v1"),
    ("https://api.example/v1///", "https://api.example/v1"),
    ("https://api.example/", "https://api.example"),
    ("https://api.example//a//v1", "https://api.example/a/v1"),
    ("https://api.example/./a/./v1/.", "https://api.example/a/v1"),
    ("https://api.example/b/../a/c/../v1", "https://api.example/a/v1"),
    ("https://api.example/../v1", "https://api.example/v1"),
    ("https://api.example/%7Ea/%76%31", "https://api.example/~a/v1"),
    ("https://api.example/a/%2E%2e/v1", "https://api.example/v1"),
    ("https://api.example/a%2fb", "https://api.example/a%2Fb"),
    ("https://api.example./v1", "https://api.example/v1"),
    ("https://api.example.:443/v1", "https://api.example/v1"),
    ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
    ("https://BÜCHER.example/v1", "https://XN--BCHER-KVA.example/v1"),
    ("https://straße.example", "https://xn--strae-oqa.example"),
    ("https://bücher。example", "https://xn--bcher-kva.example"),
    ("http://127.0.0.1:9/v1", "http://localhost:9/v1"),
    ("http://[::1]:9/v1", "http://localhost:9/v1"),
    ("http://127.0.0.53:9/v1", "http://LOCALHOST.:9/v1"),
    ("http://[0:0:0:0:0:0:0:1]/v1", "http://127.0.0.1/v1"),
    ("https://[2001:DB8:0::1]/v1", "https://[2001:db8::1]/v1"),
]
OTHER_APIS = [
    ("https://api.example/v1", "https://api.example/V1"),
    ("https://api.example/v1", "https://api.example/v1/v1"),
    ("https://api.example", "https://api.example:8443"),
    ("https://localhost", "http://localhost"),
    ("http://localhost:80", "http://localhost:81"),
    ("https://api.example/a/b", "https://api.example/a%2Fb"),
    ("https://api.example", "https://localhost"),
    ("https://localhost.example", "https://localhost"),
    ("https://127.0.0.1.example", "https://127.0.0.1"),
    ("https://strasse.example", "https://straße.example"),
    ("https://192.0.2.1", "https://192.0.2.2"),
    ("sandbox", "https://sandbox"),
]


@pytest.mark.parametrize(("one", "other"), ONE_API)
def test_spellings_of_one_api_have_one_identity(one: str, other: str) -> None:
    assert api_identity(one) == api_identity(other)


@pytest.mark.parametrize(("one", "other"), OTHER_APIS)
def test_another_api_has_another_identity(one: str, other: str) -> None:
    assert api_identity(one) != api_identity(other)


@pytest.mark.parametrize("text", ["sandbox", "", "https://[::1", "https://a:port", "https://a\u0000\u2028ü"])
def test_a_text_that_is_no_url_is_its_own_identity(text: str) -> None:
    assert api_identity(text) == text


def test_the_usual_base_url_is_its_own_identity() -> None:
    assert api_identity(DEFAULT_BASE_URL) == DEFAULT_BASE_URL


PATHS = st.text(alphabet=string.ascii_letters + "/.%2fF~", max_size=20)
HOSTS = st.sampled_from(["a.example", "A.Example.", "localhost", "127.0.0.9", "[::1]", "bücher.example"])


@given(HOSTS, st.sampled_from(["", ":443", ":8443"]), PATHS)
def test_identity_is_stable_and_equals_that_of_the_normalized_url(host: str, port: str, path: str) -> None:
    url = f"https://{host}{port}/{path}"
    assert api_identity(normalized(url)) == api_identity(url) == api_identity(api_identity(url))
    assert normalized(normalized(url)) == normalized(url)


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ("HTTP://LocalHost:80//api/./v1/", "http://localhost/api/v1"),
        ("http://127.0.0.1:9/a/../v1", "http://127.0.0.1:9/v1"),
        ("http://[::1]:9/%76%31", "http://[::1]:9/v1"),
        ("https://api.example./v1", "https://api.example./v1"),
        ("https://Bücher.example/v1", "https://xn--bcher-kva.example/v1"),
    ],
)
def test_requests_go_to_the_given_host(said: str, used: str) -> None:
    assert resolved({"base_url": said}).sending.base_url == used


@pytest.mark.parametrize(
    "url", ["https://a.example/ü", "https://a b.example", "https://a.example/\tv1", "https://ü..x"]
)
def test_an_unusable_url_is_refused(url: str) -> None:
    assert "that is not a URL such as" in refused({"base_url": url})


@pytest.mark.parametrize("host", ["localhost", "Localhost.", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_hosts_are_recognized_by_name_and_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1.example", "xlocalhost", "::2", "10.0.0.1", ""])
def test_another_host_is_no_loopback_host(host: str) -> None:
    assert not is_loopback(host)
