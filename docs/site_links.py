"""Hook of the site: links to files of the repository that are no pages become their words and the file's path."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **event: Any) -> str:
    """The page with such links replaced; called by MkDocs for each page."""
    return _OUTSIDE.sub(_words_and_path, markdown)


def _words_and_path(link: re.Match[str]) -> str:
    words, path = link[1], link[2]
    return words if path in words else f"{words} (`{path}`)"
