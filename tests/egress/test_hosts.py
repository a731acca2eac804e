"""Where a credential may go."""

from __future__ import annotations

import pytest

from flow8_core.egress import Hosts
from flow8_core.errors import EgressDenied, ValidationFailed


@pytest.mark.parametrize(
    ("entries", "url", "covered"),
    [
        (("slack.com",), "https://slack.com/api/", True),
        (("slack.com",), "https://SLACK.com./api/", True),
        (("Slack.Com",), "https://slack.com/", True),
        (("slack.com",), "https://slack.com:443/", True),
        (("slack.com",), "http://slack.com/", True),
        (("slack.com",), "https://slack.com:8443/", False),
        (("slack.com",), "https://api.slack.com/", False),
        (("slack.com",), "https://slack.com.evil.example/", False),
        (("slack.com",), "https://evil-slack.com/", False),
        (("slack.com",), "https://slack.com@evil.example/", False),
        (("slack.com",), "https://evil.example/slack.com", False),
        (("slack.com",), "https://evil.example/?slack.com", False),
        (("slack.com",), "https://evil.example#slack.com", False),
        (("slack.com",), "https://slack.com\\.evil.example/", False),
        (("slack.com",), "not a url", False),
        (("slack.com",), "", False),
        (("slack.com:8443",), "https://slack.com:8443/", True),
        (("slack.com:8443",), "https://slack.com/", False),
        (("slack.com:443",), "https://slack.com/", True),
        (("slack.com:443",), "http://slack.com/", False),
        (("*.example.com",), "https://a.example.com/", True),
        (("*.example.com",), "https://a.b.example.com/", True),
        (("*.example.com",), "https://example.com/", False),
        (("*.example.com",), "https://badexample.com/", False),
        (("*.example.com",), "https://a.example.com.evil.example/", False),
        (("*.example.com",), "https://a.example.com:8443/", False),
        (("*.example.com:8443",), "https://a.example.com:8443/", True),
        (("127.0.0.1:9000",), "http://127.0.0.1:9000/", True),
        (("127.0.0.1:9000",), "http://127.0.0.1:9001/", False),
        (("[::1]:9000",), "http://[0:0::1]:9000/", True),
        (("bücher.example",), "https://xn--bcher-kva.example/", True),
        (("xn--bcher-kva.example",), "https://bücher.example/", True),
        ((), "https://slack.com/", False),
    ],
)
def test_hosts_cover_exactly_what_they_name(entries: tuple[str, ...], url: str, covered: bool) -> None:
    assert covered == Hosts.of(*entries).covers(url)


@pytest.mark.parametrize(
    "url", ["https://slack.com/api/", "http://127.0.0.1:9000/x", "https://[::1]:8443/", "https://a.b:1/"]
)
def test_the_hosts_of_a_url_cover_it_and_no_other_port(url: str) -> None:
    hosts = Hosts.of_url(url)

    assert hosts.covers(url)
    assert not hosts.covers("https://slack.com:9999/")


def test_two_sets_of_hosts_can_be_joined() -> None:
    hosts = Hosts.of("a.example") | Hosts.of("*.b.example")

    assert hosts.covers("https://a.example/")
    assert hosts.covers("https://x.b.example/")


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "*.com", "*.a.*", "a/b", "https://a.example", "u@a.example", "a b", "*.0.0.1", "a:0", "a:99999"],
)
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ValidationFailed):
        Hosts.of(entry)


def test_the_hosts_of_no_url_are_refused() -> None:
    with pytest.raises(EgressDenied):
        Hosts.of_url("slack.com")
