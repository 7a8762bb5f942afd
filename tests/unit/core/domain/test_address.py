"""Which addresses are another's."""

from ipaddress import ip_address

import pytest

from core.domain.address import is_public

PUBLIC = ["1.1.1.1", "9.255.255.255", "172.15.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1", "64:ff9b::101:101"]
SPECIAL = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:1.1.1.1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0"),
    *("fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1", "2001:db8::1", "2001::1", "2001:10::1", "3fff::1"),
    *("2002:7f00:1::", "2002:101:101::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "5f00::1", "4000::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_global_address_is_anothers(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", SPECIAL)
def test_anything_special_is_not(address: str) -> None:
    assert not is_public(ip_address(address))
