"""Take what names a person, a machine or a folder out of words that are stored and may be published."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import re
import shlex
import socket
from collections.abc import Iterable
from functools import cache

from nfbench.units import expanded

LONGEST_MESSAGE = 500
_HIDDEN = "…"
_SEPARATOR, _COMPONENT = r"[/\\]+", r"[^\s/\\:;,'\"]++"
_SPACED = rf"[^\s/\\:;,'\".=]++(?: [^\s/\\:;,'\".=-][^\s/\\:;,'\".=]*+){{1,2}}{_SEPARATOR}"
"""A folder with spaces in its name, outside of quotes."""
_HOME = re.compile(rf"(?<![\w.])(?:[A-Za-z]:)?{_SEPARATOR}(?:home|Users){_SEPARATOR}{_COMPONENT}(?!(?: \w+)?[/\\])")
"""A home folder by itself, which bears a user's name."""
_QUOTED = re.compile(r"(?<=['\"])(?:file:|[A-Za-z]:|~[\w.-]*|\.{0,2})?[/\\][^'\"\n]*[/\\](?=[^\s/\\'\"])")
"""The folders of a path in quotes, in which they may have spaces."""
_PATH = re.compile(
    # a compiler's -I/usr/include begins one too, the second slash of an address does not
    rf"(?:(?<![\w./\\])|(?<=[\s'\"]-[A-Za-z]))"
    rf"(?:(?:~[\w.-]*|\.{{1,2}}){_SEPARATOR}"
    rf"|(?:file:{_SEPARATOR}|[A-Za-z]:{_SEPARATOR}|(?<!:){_SEPARATOR}|[/\\](?![/\\])){_COMPONENT}{_SEPARATOR})"
    rf"(?:{_SPACED}|{_COMPONENT}{_SEPARATOR})*(?=[^\s/\\])"
)
_RELATIVE = re.compile(
    # runs/alice/net.py, and a/b/c of words; images/s and 12/4 are none
    rf"(?<![\w./\\@~-])(?:(?:[\w.-]+/)+(?:{_SPACED})?(?=[\w.-]*\.[A-Za-z]\w*(?![\w/]))|(?:[A-Za-z_][\w.-]+/){{2,}}(?=[A-Za-z_]))"
)
_USER = re.compile(r"(?<![\w~])~[A-Za-z_][\w.-]*")
_ACCOUNT = re.compile(r"(?<![\w.+-])[\w.+-]+(?::[^\s@/]*)?@(?!\w+=)(?=[A-Za-z\[]|\d+\.\d)[\w.-]*")
"""``user@host`` and ``user:password@host``; not nfbench's own ``nfnet-f1@px=224``."""
_UUID = re.compile(r"\b(?:(?:GPU|MIG)-)?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_LABELS = r"(?<![\w./@-])(?:[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?\.)"
_NAMED = r"(?<![\w./@-])(?:[A-Za-z](?:[\w-]*[A-Za-z0-9])?\.)"
_END = r"(?![\w(-]|\.\w)"
_HOST = re.compile(
    rf"(?P<url>\b[A-Za-z][\w+.-]*://[^\s'\"<>),]*)"
    r"|(?<=\[)[\w.:%-]+(?=\]:\d)"
    rf"|(?P<address>(?<![\w.:=-])(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F.]*)(?![\w.]))"
    # of names whose last label a module or a parameter may have, only those in which a host stands
    rf"|{_LABELS}+(?:com|org|edu|gov|local|localdomain|lan|corp|internal|intranet){_END}"
    rf"|{_LABELS}{{2,}}(?:net|io|ai|dev|cloud|cluster|home|int){_END}"
    rf"|(?:(?<=\[)|(?<=\bat )|(?<=\bto )|(?<=\bon )|(?<=\bhost )|(?<=\bfrom )){_NAMED}{{2,}}[a-z]{{2}}{_END}"
    rf"|{_LABELS}+[A-Za-z][\w-]*(?<!\.py)(?<!\.cpp)(?<!\.c)(?<!\.cc)(?<!\.cu)(?<!\.h)(?=:\d{{4,5}}\b)"
)
_PUBLIC = re.compile(
    r"(?:s3|gs|hf)://|https?://(?:[\w-]+\.)+(?:com|org|net|io|ai|dev|edu|gov)(?![\w.:-])", re.IGNORECASE
)
_VERSION = re.compile(r"(?:version|cudnn|cuda|driver|nccl|python|torch)\W{1,3}$", re.IGNORECASE)
_NOBODY = {"", "localhost", "localhost.localdomain", "root"}
_PREFIX = re.compile(r"(?:[\w-]+=)?(?:imagefolder:)?")
"""What stands before the value in one word of a command: ``--dataset=imagefolder:``."""


def scrubbed(message: str) -> str:
    """Return ``message`` without folders, users, hosts, addresses and UUIDs, cut off at 500 characters.

    Of a path its last component stays, of an address on the public web all.
    """
    home = str(expanded("~"))
    message = _ACCOUNT.sub(_HIDDEN, message.replace(home, "~") if len(home) > 1 else message)
    message = _PATH.sub("", _QUOTED.sub("", _HOME.sub("~", message)))
    message = _UUID.sub(_HIDDEN, _HOST.sub(_without_host, _USER.sub("~", _RELATIVE.sub("", message))))
    return _names().sub(_HIDDEN, message)[:LONGEST_MESSAGE]


def _without_host(match: re.Match[str]) -> str:
    text = match[0]
    if match["url"]:
        return text if _PUBLIC.match(text) else text.partition("://")[0] + "://" + _HIDDEN
    if match["address"]:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return text
        # C++ has names such as c10::add
        short = ":" in text and text.count(":") < 3 and not text.startswith(("fe80:", "::"))
        return text if short or _VERSION.search(match.string, 0, match.start()) else _HIDDEN
    return _HIDDEN


@cache
def _names() -> re.Pattern[str]:
    """The names of this machine and of its user, as whole words; a pattern that matches nothing where there is none."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    # a container's user may have no name
    with contextlib.suppress(OSError, KeyError):
        names.add(getpass.getuser())
    words = sorted((re.escape(name) for name in names - _NOBODY if len(name) > 2), key=len, reverse=True)
    return re.compile(rf"(?<![\w.])(?:{'|'.join(words)})(?![\w])" if words else r"(?!)")


def typed(words: Iterable[str]) -> str:
    """The command of these ``words`` fit to be stored: a path is given by its last component, and neither the home
    folder nor a UUID nor the address of a cluster is in it."""
    home = str(expanded("~"))
    stored: list[str] = []
    flag = ""
    for word in words:
        prefix = "" if (match := _PREFIX.match(word)) is None else match[0]
        flag = prefix.partition("=")[0] if prefix.startswith("--") else flag
        value = word[len(prefix) :]
        value = value.replace(home, "~") if len(home) > 1 else value
        parts = re.split(r"[/\\]", value)
        # "origin/main" is no path
        ref = flag == "--against" and parts[0] not in ("", "~", "..")
        if flag == "--ray" and value != "auto":
            value = "ADDRESS"
        elif not ref:
            value = next((part for part in reversed(parts) if part), value)
        stored.append(_UUID.sub("…", prefix + value))
        flag = word
    return shlex.join(stored)
