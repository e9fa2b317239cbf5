"""User names, passwords and tokens in URLs (`data.shards=https://me:secret@host/faces`, `https://token@host`), kept
apart from the configuration.

A configuration is copied into run folders, checkpoints and messages, so a login must not stay in it. It moves to the
environment of this process, where the processes that it starts find it too, and comes back when the URL is opened.
"""

import json
import os
import re
from urllib.parse import unquote

VARIABLE = "FRA_DIST_LOGINS"
"""Environment variable: a JSON object {"https://host": "USER:PASSWORD"}."""
_URL = re.compile(r"(\w[\w+.-]*://)((?<=\bhttps://)[^/\s]+|(?<=\bhttp://)[^/\s]+|[^/\s]*:[^/\s]*)@([^/\s,@*]*)")


def put_aside(text: str) -> str:
    """Return `text` without the logins of the URLs in it, which are kept for `with_login`."""

    def keep(match: re.Match[str]) -> str:
        os.environ[VARIABLE] = json.dumps({**_kept(), match[1] + match[3]: match[2]})
        return match[1] + match[3]

    return _URL.sub(keep, text)


def with_login(url: str) -> str:
    """Return `url` with the login that `put_aside` keeps for its host, if there is one and the URL has none."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    login = _kept().get(f"{scheme}{mark}{host}")
    return f"{scheme}{mark}{login}@{host}{slash}{path}" if login else url


def without_kept(text: str) -> str:
    """Return `text` without the logins that are kept, which libraries quote in words of their own."""
    for login in _kept().values():
        for form in {login, unquote(login)}:
            text = text.replace(f"{form}@", "").replace(form, "***")
            secret = form.partition(":")[2]
            text = text.replace(secret, "***") if len(secret) > 3 else text
    return text


def _kept() -> dict[str, str]:
    try:
        found = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
