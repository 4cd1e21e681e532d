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
from functools import cache

from feilun.errors import ModelError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def connect(host: str, port: int, *, tls: bool, private: bool, timeout: float) -> socket.socket:
    """Connect to the first address of ``host``, if all of its addresses may be connected to.

    Parameters
    ----------
    host, port : str, int
        Where to.
    tls : bool
        Whether the host must show a certificate for its name.
    private : bool
        Whether addresses of private networks and of this machine may be connected to.
    timeout : float
        Seconds for each operation.

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
    family, kind, protocol, _, place = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.settimeout(timeout)
        opened.connect(place)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context().wrap_socket(opened, server_hostname=host) if tls else opened
    except BaseException:
        opened.close()
        raise


def over(opened: socket.socket, host: str, port: int) -> http.client.HTTPConnection:
    """Speak HTTP over a socket; it is never opened again."""
    connection = http.client.HTTPConnection(host, port)
    connection.sock = opened
    connection.auto_open = 0
    return connection


def _check(host: str, address: Address, private: bool) -> None:
    for each in (address, *_inside(address)):
        never = each.is_multicast or each.is_unspecified or each.is_link_local
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
