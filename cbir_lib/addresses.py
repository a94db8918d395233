"""Hiding the credentials in addresses such as ``http://user:password@host?token=...``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"


def hide_credentials(address: str) -> str:
    """Return an address without user name, password, query and fragment.

    A password may hold any character, also ``/``, ``@`` and ``?``: where it is not clear where the
    host begins, the host is hidden, too.

    >>> hide_credentials("http://root:se@cret@localhost:19530/db?token=abc")
    'http://localhost:19530/db?***'
    >>> hide_credentials("https://root:a/b@localhost")
    'https://***'
    >>> hide_credentials("archive.db")
    'archive.db'
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        scheme, rest = "", address
    before, at, _ = rest.rpartition("@")
    if at and not mark and rest.endswith(".db") and ":" not in before:  # a file's name
        return address
    if at and re.search(r"[/?#\\]", before):
        return f"{scheme}{mark}{HIDDEN}"
    if at:
        rest = rest[len(before) + 1 :]
    shown, query = re.match(r"([^?#]*)(.*)", rest, re.S).groups()
    return f"{scheme}{mark}{shown}" + (f"{query[0]}{HIDDEN}" if query else "")


def scrub(text: str, addresses: Iterable[str]) -> str:
    """Return a text without what :func:`hide_credentials` hides of some addresses.

    The whole addresses and their secret parts are hidden, also where the text has them decoded or
    quoted differently.
    """
    secrets = {}
    for address in addresses:
        shown = hide_credentials(address)
        if shown == address:
            continue
        secrets[address] = shown
        rest = address.partition("://")[2] or address
        before, at, _ = rest.rpartition("@")
        parts = [before, *before.split(":", 1)[1:]] if at else []
        parts += [value for value in re.split(r"[?&#=]", rest)[1:] if "=" not in value]
        for part in parts:
            secrets |= dict.fromkeys((part, unquote(part), repr(part)[1:-1]), HIDDEN)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 3:  # a shorter one would be found in any word
            text = text.replace(secret, secrets[secret])
    return text
