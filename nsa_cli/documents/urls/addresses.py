"""Public addresses, and a connection to an address that was checked.

A host name is resolved once, and the connection goes to the address that was checked, so that a
second answer of the name server cannot lead elsewhere.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from nsa_cli.documents.errors import UnreadableError

_NAT64 = IPv6Network("64:ff9b::/96")
_Address = IPv4Address | IPv6Address


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Private, link-local, loopback, multicast, reserved and unspecified addresses do not, nor do
    IPv6 addresses that hold such an IPv4 address.
    """
    ip = ip_address(address.split("%")[0])
    if isinstance(ip, IPv4Address):
        return _is_public(ip)
    if ip.ipv4_mapped is not None:
        return _is_public(ip.ipv4_mapped)
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFFFFFF))
    inner = [*([ip.sixtofour] if ip.sixtofour else []), *(ip.teredo or ())]
    return not ip.is_site_local and all(_is_public(each) for each in (ip, *inner))


def _is_public(ip: _Address) -> bool:
    special = (
        *(ip.is_private, ip.is_loopback, ip.is_link_local, ip.is_multicast, ip.is_reserved),
        ip.is_unspecified,
    )
    return ip.is_global and not any(special)


def connect(host: str, port: int, *, allow_private: bool, timeout: float) -> socket.socket:
    """Connect to the first address of a host that may be connected to and accepts.

    Args:
        host: Its name or address.
        port: Its port.
        allow_private: Whether addresses that are not public may be connected to.
        timeout: Seconds for each address, and for each read.

    Raises:
        UnreadableError: With code `private_address` if all addresses are refused; with code
            `unreachable` if none accepts.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _unreachable(host, error) from error
    refused, failed = "", OSError("it has no address")
    for family, kind, protocol, _, address in found:
        where = str(address[0])
        if not (allow_private or is_public(where)):
            refused = where
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
            where = str(connection.getpeername()[0])
        except OSError as error:
            connection.close()
            failed = error
            continue
        if allow_private or is_public(where):
            return connection
        connection.close()
        refused = where
    if refused:
        where = "" if host == refused else f" ({refused})"
        raise UnreadableError(
            f"{host} is not on the public internet{where}",
            hint="add --allow-private if you trust it",
            code="private_address",
        )
    raise _unreachable(host, failed)


def _unreachable(host: str, error: Exception) -> UnreadableError:
    reason = getattr(error, "strerror", None) or str(error)
    return UnreadableError(
        f"{host} cannot be reached ({reason})",
        hint="check the address and the network",
        code="unreachable",
    )
