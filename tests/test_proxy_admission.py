"""What of a client's address counts."""

import pytest

from gateway.proxy.admission import network


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:socket", "unix:socket"),
        ("", ""),
    ],
)
def test_an_ipv6_client_counts_by_its_network(address: str, subject: str) -> None:
    """It may choose the last 64 bits of its address, and would have a new limit with each."""
    assert network(address) == subject
