"""The download of a large file that can be interrupted at any moment, and the unpacking of its images."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.archives.tgz import BLOCK, members
from medvlp.prepare.files import IMAGE_SUFFIXES
from medvlp.prepare.progress import progress

TIMEOUT = 60.0
# Attempts in a row that bring no byte, and the seconds before the second one, doubled each time.
TRIES, PAUSE = 5, 0.5
TEMPORARY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)


class UnreachableError(UserError):
    """The server of a file cannot be reached, or does not hand it out."""


def download(url: str, target: Path, sha256: str = "", pause: float = PAUSE) -> None:
    """Fetch a file, or the rest of it; nothing is done if it is there.

    What has come lies in TARGET.part. The next call goes on behind it, if the server can do that and still has the same
    file. The file gets its name when it has as many bytes as the server says.

    Args:
        url: Its address, http or https.
        target: The file.
        sha256: Its checksum in hexadecimal digits; empty if none is published.
        pause: Seconds before the second attempt.

    Raises:
        UnreachableError: If the server cannot be reached, or does not have the file.
        UserError: If the file has another size or checksum.
        OSError: If it cannot be written.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part, version = (target.with_name(f"{target.name}.{suffix}") for suffix in ("part", "version"))
    failures, before = 0, -1
    while True:
        try:
            total = _fetch(url, part, version)
            problem = f"{part.stat().st_size:,} of {total:,} bytes came"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            total, problem = -1, _reason(url, error)
        size = part.stat().st_size if part.is_file() else 0
        if size == total:
            break
        if size > total >= 0:
            part.unlink()
            raise UserError(f"'{url}' sent {size:,} bytes instead of {total:,}: run the same command again.")
        failures = failures + 1 if size <= before else 1
        if failures == TRIES:
            raise UnreachableError(
                f"'{url}' cannot be fetched: {problem}. What came is kept: the same command goes on."
            )
        before = size
        time.sleep(pause * 2 ** (failures - 1))
    if sha256 and _digest(part) != sha256:
        part.unlink()
        raise UserError(f"'{url}' has another checksum than published: run the same command again.")
    # Without its version, what has come would be fetched again.
    os.replace(part, target)
    version.unlink(missing_ok=True)


def _fetch(url: str, part: Path, version: Path) -> int:
    """Add to a partial file what a server still has of it, up to a cut connection; return the size of the whole."""
    have = part.stat().st_size if part.is_file() and version.is_file() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        # A file that has changed comes whole.
        request.add_header("If-Range", version.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        whole = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and whole.isdecimal():
            return int(whole)
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            # Servers under maintenance answer with a page.
            raise http.client.HTTPException("the server answers with a web page")
        rest = response.headers.get("Content-Length")
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise http.client.HTTPException("the server sends another part than the one asked for")
        tag = response.headers.get("ETag") or ""
        # A weak tag does not promise the same bytes.
        stamp = response.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
        if stamp:
            version.write_text(stamp)
        else:
            version.unlink(missing_ok=True)
        total = have + int(rest) if rest and rest.isdecimal() else None
        name = f"{part.stem}, bytes"
        with part.open("r+b" if have else "wb") as file, progress(name, total, have) as advance:
            file.seek(have)
            while block := response.read(BLOCK):
                file.write(block)
                advance(len(block))
            file.truncate()
            size = file.tell()
    return size if total is None else total


def _reason(url: str, error: Exception) -> str:
    """Return why an attempt failed, if another one may succeed.

    Raises:
        UnreachableError: If none can.
    """
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in TEMPORARY:
            raise UnreachableError(f"'{url}' cannot be fetched: {reason}.") from None
        return reason
    return str(getattr(error, "reason", error)) or type(error).__name__


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack_images(archive: Path, folder: Path) -> None:
    """Write the images of a tar archive into a folder, by their base names; nothing is done if the folder is there.

    Args:
        archive: The archive, in gzip or not.
        folder: The folder. It gets its name when all images are in it.

    Raises:
        UserError: If the archive cannot be read to its end.
        OSError: If an image cannot be written.
    """
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with members(archive) as files, progress(f"unpacking {archive.name}", None) as advance:
        for place, file in files:
            name = place.rpartition("/")[2]
            if file is not None and name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                with (part / name).open("wb") as image:
                    shutil.copyfileobj(file, image, BLOCK)
                advance(1)
    os.replace(part, folder)
