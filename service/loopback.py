"""Which addresses only this machine reaches."""

import ipaddress


def is_loopback(host: str) -> bool:
    """``localhost``, ``127.0.0.1``, ``::1`` …; a name that only a resolver could tell is none."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
