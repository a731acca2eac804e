"""One strict parser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied
from tests.egress.corpora import HOSTILE_URLS

# Of the hostile corpus: good URLs of bad places. The address is what refuses them (test_destinations.py).
PARSED = {
    "http://127.0.0.1#@evil.com/": "http://127.0.0.1/",
    "http://127.0.0.1?@evil.com/": "http://127.0.0.1/?@evil.com/",
    "http://127.0.0.1./": "http://127.0.0.1/",
    "http://0.0.0.0/": "http://0.0.0.0/",
    "http://[::ffff:127.0.0.1]/": "http://[::ffff:7f00:1]/",
    "http://[::ffff:7f00:1]/": "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:0:0:1]/": "http://[::1]/",
    "http://[::]/": "http://[::]/",
    "http://[64:ff9b::7f00:1]/": "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/": "http://[2002:7f00:1::]/",
    "http://[::127.0.0.1]/": "http://[::7f00:1]/",
    "http://[fd00:ec2::254]/": "http://[fd00:ec2::254]/",
    "http://localhost/": "http://localhost/",
    "http://LOCALHOST/": "http://localhost/",
    "http://localhost./": "http://localhost/",
    "http://localhost:80/": "http://localhost/",
    "http://ip6-localhost/": "http://ip6-localhost/",
    "http://-/%2f": "http://-/%2f",
    "http://xn--/%00": "http://xn--/%00",
}


@pytest.mark.parametrize("text", [url for url in HOSTILE_URLS if url not in PARSED], ids=ascii)
def test_a_misleading_text_is_no_url(text: str) -> None:
    with pytest.raises(EgressDenied):
        Url.parse(text)


@pytest.mark.parametrize(("text", "canonical"), PARSED.items(), ids=ascii)
def test_a_good_url_of_a_bad_place_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical == str(Url.parse(text))


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("https://slack.com/api/", "slack.com", 443, "/api/"),
        ("HTTPS://Slack.COM/api", "slack.com", 443, "/api"),
        ("http://a.example:8080", "a.example", 8080, "/"),
        ("https://a.example:443/x", "a.example", 443, "/x"),
        ("https://a.example?q=1", "a.example", 443, "/?q=1"),
        ("https://a.example/a/../b?x=../y#z", "a.example", 443, "/a/../b?x=../y"),
        ("https://bücher.example/ä?ö=ü", "xn--bcher-kva.example", 443, "/%C3%A4?%C3%B6=%C3%BC"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://straße.example/", "xn--strae-oqa.example", 443, "/"),
        (
            "https://my_bucket.s3.amazonaws.com/k%2Fe y".replace(" ", "%20"),
            "my_bucket.s3.amazonaws.com",
            443,
            "/k%2Fe%20y",
        ),
        ("https://93.184.216.34/", "93.184.216.34", 443, "/"),
        ("https://[2606:4700:0::1111]:8443/", "2606:4700::1111", 8443, "/"),
        ("https://a.example./", "a.example", 443, "/"),
        ("https://1.example/", "1.example", 443, "/"),
        ("https://a.example/{x}|'\"<>^`", "a.example", 443, "/{x}|'\"<>^`"),
    ],
)
def test_a_url_is_taken_apart(text: str, host: str, port: int, target: str) -> None:
    url = Url.parse(text)

    assert (host, port, target) == (url.host, url.port, url.target)


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("https://a.example/x/y?z", "/b", "https://a.example/b"),
        ("https://a.example/x/y?z", "b?c", "https://a.example/x/b?c"),
        ("https://a.example/x/y?z", "?c", "https://a.example/x/y?c"),
        ("https://a.example/x/y?z", "../b", "https://a.example/b"),
        ("https://a.example/x/y?z", "../../../b", "https://a.example/b"),
        ("https://a.example/x/y?z", "./", "https://a.example/x/"),
        ("https://a.example/x/y?z", "#top", "https://a.example/x/y"),
        ("https://a.example:8443/x", "/b#/../c", "https://a.example:8443/b"),
        ("https://a.example/x", "//b.example/c", "https://b.example/c"),
        ("https://a.example/x", "HTTPS://B.example", "https://b.example/"),
        ("https://a.example/x", "/./b/../c?d=../e", "https://a.example/c?d=../e"),
        ("https://a.example/x", "/.//evil.example/", "https://a.example//evil.example/"),
        ("https://a.example/x", "/caf\xc3\xa9 bar", "https://a.example/caf%C3%A9%20bar"),
        ("https://[2606:4700::1111]/x", "y", "https://[2606:4700::1111]/y"),
    ],
)
def test_a_location_is_resolved_like_rfc_3986_says(base: str, location: str, expected: str) -> None:
    assert expected == str(Url.parse(base).join(location))


@pytest.mark.parametrize(
    "location",
    [
        "\\\\evil.com",
        "/\\evil.com",
        "file:///etc/passwd",
        "//user@evil.com/",
        "http:evil.com",
        "///evil.com",
        "evil:80/x",
    ],
)
def test_a_misleading_location_is_no_url(location: str) -> None:
    with pytest.raises(EgressDenied):
        Url.parse("https://a.example/x").join(location)


def test_a_url_does_not_show_its_path_and_query() -> None:
    assert "T0KEN" not in repr(Url.parse("https://hooks.example/T0KEN?key=T0KEN"))


@given(st.text(min_size=1, max_size=60))
def test_parsing_never_fails_in_another_way_and_is_stable(text: str) -> None:
    for candidate in (text, f"https://{text}", f"http://a.example/{text}", f"http://{text}.example:80/"):
        try:
            url = Url.parse(candidate)
        except EgressDenied:
            continue

        assert url == Url.parse(str(url))
        assert str(url).isascii()
        assert " " not in str(url)


@given(st.text(alphabet="abc./:@?#\\[]%0127x ", min_size=1, max_size=30))
def test_the_host_is_what_a_careful_reader_sees(text: str) -> None:
    try:
        url = Url.parse("http://" + text)
    except EgressDenied:
        return

    shown = re.split("[/?#]", text)[0]
    assert "@" not in shown
    assert shown.startswith("[") or url.host == shown.partition(":")[0].removesuffix(".")


@given(st.text(max_size=40))
def test_joining_never_leaves_the_two_schemes(location: str) -> None:
    try:
        url = Url.parse("https://a.example/x/y").join(location)
    except EgressDenied:
        return

    assert url.scheme in ("http", "https")
    assert url == Url.parse(str(url))
