"""AE titles and addresses as anybody may send them, made safe to compare, to keep and to show. Plain Python."""

from ipaddress import IPv4Address, IPv6Address, ip_address

SHOWN_CHARACTERS = 64  # 16 bytes of anything, each shown as \xNN

Address = IPv4Address | IPv6Address


def bare(ae_title: str) -> str:
    """Without leading and trailing spaces, which mean nothing (PS3.5 6.2, AE), nor the NULs that some pad with."""
    return ae_title.strip(" \0")


def shown(text: str) -> str:
    """Printable ASCII of at most 64 characters; every other character, and the backslash, as \\xNN or \\uNNNN.

    An AE title has no backslash, so what was changed here cannot pass for one.
    """
    escaped = "".join(c if " " <= c <= "~" and c != "\\" else _escape(c) for c in text[:SHOWN_CHARACTERS])
    return escaped[:SHOWN_CHARACTERS].strip(" ")


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_address(text: str) -> Address | None:
    """The address of a peer, an IPv4 one also when it came through an IPv6 socket; None where it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
