"""What an HTTP answer says of the file it carries, read with distrust."""

import datetime
import email.utils
import re
from http.client import HTTPResponse

# At most 18 digits: int() refuses thousands of them, and no file is that large.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<")


def unusable(response: HTTPResponse, *, ranged: bool) -> str | None:
    """Return why an answer can't be the file, as what was found; None where it may be.

    Args:
        ranged: Whether a part of the file was asked for, and so 206 is a good status.
    """
    if response.status != 200 and not (ranged and response.status == 206):
        return f"HTTP status {response.status}"
    for name, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        coding = response.headers.get(name, plain).strip().lower()
        if coding != plain:
            return f"a body in the encoding {coding[:40]!r}"
    if response.headers.get_content_type() == "text/html":
        return "a web page (text/html), perhaps a log-in page on the way"
    return None


def is_web_page(head: bytes) -> bool:
    """Return whether these first bytes are those of HTML or XML, which no checkpoint begins with."""
    return _WEB_PAGE.match(head) is not None


def content_range(response: HTTPResponse) -> tuple[int, int] | None:
    """Return (start, total) of Content-Range; None where it is missing or malformed."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return (int(match[1]), int(match[2])) if match else None


def retry_after(response: HTTPResponse, *, longest: float) -> float:
    """Return the seconds a server asks us to wait, at most `longest`: a number or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        if text.isdecimal():
            seconds = float(text)
        else:
            then = email.utils.parsedate_to_datetime(text)
            seconds = (then - datetime.datetime.now(then.tzinfo)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), longest)
