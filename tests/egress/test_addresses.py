"""Which addresses are public."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.egress import addresses
from tests.egress.corpora import PRIVATE_ADDRESSES, PUBLIC_ADDRESSES


@pytest.mark.parametrize("text", PRIVATE_ADDRESSES)
def test_an_address_that_is_not_of_the_public_internet_is_refused(text: str) -> None:
    assert addresses.refused(addresses.parse(text)) is not None


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_a_neighbour_of_a_private_range_is_public(text: str) -> None:
    assert addresses.refused(addresses.parse(text)) is None


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(set(PRIVATE_ADDRESSES)) >= 120


@pytest.mark.parametrize("text", ["fe80::1%eth0", "fe80::1%2", "::1%lo"])
def test_a_zone_does_not_hide_an_address(text: str) -> None:
    assert addresses.refused(addresses.parse(text)) is not None


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_let_through_in_an_ipv6_dress(address: IPv4Address) -> None:
    number = int(address)

    dresses = [
        IPv6Address(number),
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0xFFFF << 48) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
        IPv6Address((0x20010000 << 96) | number),
        IPv6Address((0x26001F00 << 96) | (0x5EFE << 32) | number),
    ]

    assert all(addresses.refused(dress) is not None for dress in dresses)


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert addresses.refused(address) is not None


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]
)
def test_a_metadata_address_is_not_opened_by_a_name(text: str) -> None:
    row = addresses.refused(addresses.parse(text))

    assert row is not None
    assert not row.by_name
