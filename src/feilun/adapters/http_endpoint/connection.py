"""One connection to an address that was looked at, for the name that it was looked up by.

A name may mean another address each time it is looked up. So the address is checked once it is
known, and connected to as it is; the name is used for TLS and the Host header alone. Redirects are
not followed, and proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from contextlib import suppress
from functools import cache
from typing import Any

from feilun.errors import ModelError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Where clouds keep credentials and settings beyond the link-local addresses: Alibaba, Azure,
Oracle; AWS and Google over IPv6."""


def connect(host: str, port: int, *, tls: bool, private: bool, timeout: float) -> socket.socket:
    """Connect to ``host`` if all of its addresses may be connected to; to the first that answers.

    Parameters
    ----------
    host, port : str, int
        Where to.
    tls : bool
        Whether the host must show a certificate for its name.
    private : bool
        Whether addresses of private networks and of this machine may be connected to.
    timeout : float
        Seconds for each operation, and for connecting to all of them.

    Raises
    ------
    ModelError
        If an address may not be connected to.
    OSError
        If the host is not known or cannot be reached.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        _check(host, ipaddress.ip_address(str(place[0]).partition("%")[0]), private)
    opened = _open_first([(family, place) for family, *_, place in found], timeout)
    try:
        opened.settimeout(timeout)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context().wrap_socket(opened, server_hostname=host) if tls else opened
    except BaseException:
        opened.close()
        raise


def _open_first(places: list[tuple[int, Any]], timeout: float) -> socket.socket:
    """Connect to the first place that answers, each for a fair part of what time is left."""
    end = time.monotonic() + timeout
    for left in range(len(places), 1, -1):
        with suppress(OSError):  # such as an IPv6 address of a host that listens on IPv4 alone
            return _open(*places[-left], (end - time.monotonic()) / left)
    return _open(*places[-1], end - time.monotonic())


def _open(family: int, place: Any, timeout: float) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(max(timeout, 0.001))
        opened.connect(place)
    except BaseException:
        opened.close()
        raise
    return opened


def over(opened: socket.socket, host: str, port: int) -> http.client.HTTPConnection:
    """Speak HTTP over a socket; it is never opened again."""
    connection = http.client.HTTPConnection(host, port)
    connection.sock = opened
    connection.auto_open = 0
    return connection


def _check(host: str, address: Address, private: bool) -> None:
    for each in (address, *_inside(address)):
        never = each.is_multicast or each.is_unspecified or each.is_link_local
        never = never or each in _METADATA
        if never or not (private or each.is_global):
            raise ModelError(
                f"{host} is at {address}, which is no public address.",
                "Adopt it with --private if it is in a network of yours."
                if not never
                else "Such addresses are never connected to.",
            )


def _inside(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
