"""Names and addresses of hosts, as they are in ``Host`` headers and options."""

import ipaddress
import re

_HEADER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@\s]+))(?::\d*)?")


def canonical(name: str) -> str:
    """Return ``name`` in lower case without a final dot. An address is in its shortest form, as IPv4 if it is that."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def host_of(header: str) -> str:
    """Return the canonical name in a ``Host`` header, without the port; an empty text if it is malformed."""
    found = _HEADER.fullmatch(header.strip())
    return canonical(found[1] or found[2]) if found else ""


def is_loopback(name: str) -> bool:
    """Return whether ``name`` is ``localhost`` or a loopback address."""
    name = canonical(name)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
