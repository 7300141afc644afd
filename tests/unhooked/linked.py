"""Where the links of pages and Markdown lead: what the tests of the site and of the repository share."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

FOREIGN = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*\s(?:src|href)\s*=\s*[\"']?(?:https?:)?//",
    re.IGNORECASE,
)
FETCHED = re.compile(
    r"(?:@import\s+(?:url\()?|url\()\s*[\"']?(?:https?:)?//|(?:require|mathjax)[\w.-]*\.js", re.IGNORECASE
)
MARKDOWN = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


@cache
def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page: Path) -> frozenset[str]:
    return frozenset(
        tag[key] for tag in soup(page).find_all(True) for key in ("id", "name") if tag.has_attr(key)
    )


def badly_formed(url: str) -> bool:
    """Return whether an address of another host could not be one; whether it answers is not asked."""
    parts = urlsplit(url)
    if parts.scheme == "mailto":
        return "@" not in parts.path
    return parts.scheme not in ("https", "http") or "." not in parts.netloc or " " in url


def dead(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere: files and anchors that are not there, addresses that are none."""
    found = []
    for tag in soup(page).find_all(True):
        for url in (tag[key] for key in ("href", "src") if tag.has_attr(key)):
            parts = urlsplit(url)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                found += [url] if badly_formed(url) else []
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = target.is_file()
            if there and parts.fragment and target.suffix == ".html":
                there = unquote(parts.fragment) in anchors(target)
            found += [] if there else [url]
    return found
