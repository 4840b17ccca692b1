"""One file over http or https: whole, in bounded time and room, with redirects to https alone."""

import shutil
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit

from mmengine.logging import print_log

from mmkd.checkpoints.foreign import shown, shown_path
from mmkd.checkpoints.ultralytics.errors import CheckpointError

#: Seconds that a server may stay silent.
TIMEOUT = 30.0
#: A download slower than this many bytes a second, over a minute, has stalled.
MIN_RATE, RATE_WINDOW = 1000, 60.0
#: No detector's checkpoint is larger.
MAX_BYTES = 1 << 34
_CHUNK = 1 << 20
_REPORT_EVERY = 10.0


def cannot_fetch(
    what: str,
    address: str,
    why: str,
    remedy: str = 'Try again, correct the address, or give a path',
) -> CheckpointError:
    """The error that says why an address could not be fetched, and what to do."""
    return CheckpointError(
        f'{what} must be a checkpoint that can be fetched, but "{shown_path(address)}" could not '
        f'be: {why}. {remedy}.'
    )


class _OnlyToHttps(request.HTTPRedirectHandler):
    """Follows a redirect to https alone: to no file, no other scheme, nothing in the clear."""

    def http_error_302(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Any
    ) -> Any:
        to = urljoin(req.full_url, headers.get('location') or headers.get('uri') or '')
        if urlsplit(to).scheme != 'https':
            fp.close()
            raise _Redirect(to)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Redirect(Exception):
    """Carries the address that was not followed."""


def _open(address: str) -> HTTPResponse:
    opener = request.OpenerDirector()  # build_opener's would open file:// and ftp://, too
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
        _OnlyToHttps,
    ):
        opener.add_handler(handler())
    return opener.open(request.Request(address, headers={'User-Agent': 'mmkd'}), timeout=TIMEOUT)


def download(address: str, file: BinaryIO, what: str, folder: Path) -> None:
    """Write all of what is at ``address`` to ``file``.

    Args:
        address: of http or https.
        file: is written to, also where an error follows.
        what: how an error calls it.
        folder: where ``file`` lies, for the room there.

    Raises:
        CheckpointError: there is no answer, or one of an error; a redirect to other than https;
            less came than was announced; it is too slow, or too large.
    """
    try:
        response = _open(address)
    except _Redirect as error:
        raise cannot_fetch(
            what,
            address,
            f'it redirects to "{shown(error)}", and a redirect is followed to https alone',
            'Give the final address, if you trust it, or a path',
        ) from error
    except HTTPError as error:
        error.close()
        raise cannot_fetch(
            what, address, f'HTTP {error.code} {shown(error.reason, 100)}'
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise cannot_fetch(
            what, address, shown(getattr(error, 'reason', error)) or 'no answer'
        ) from error
    with response:
        size = response.length  # None where the server does not say
        if size is not None:
            _check_room(size, folder, what, address)
        megabytes = 'of unknown size' if size is None else f'{size / 1e6:.1f} MB'
        print_log(
            f'{what}: fetching "{shown_path(address)}" ({megabytes}) into {folder}', 'current'
        )
        done = _copy(response, file, size, what, address)
    if size is not None and done != size:
        raise cannot_fetch(what, address, f'the download is torn: {done} of {size} bytes came')


def _copy(response: HTTPResponse, file: BinaryIO, size: int | None, what: str, address: str) -> int:
    done = marked = 0
    said = since = time.monotonic()
    while True:
        try:
            chunk = response.read1(_CHUNK)  # what is there: a slow server must not hide its rate
        except (OSError, HTTPException, ValueError) as error:
            raise cannot_fetch(
                what, address, f'the download is torn after {done} bytes: {shown(error)}'
            ) from error
        if not chunk:
            return done
        file.write(chunk)
        done += len(chunk)
        now = time.monotonic()
        if done > MAX_BYTES:
            raise cannot_fetch(what, address, f'it is larger than {MAX_BYTES / 1e9:.0f} GB')
        if now - since > RATE_WINDOW:
            if (done - marked) / (now - since) < MIN_RATE:
                raise cannot_fetch(what, address, f'the download has stalled after {done} bytes')
            since, marked = now, done
        if now - said > _REPORT_EVERY:
            said = now
            share = '' if size is None else f' of {size / 1e6:.1f}'
            print_log(f'{what}: {done / 1e6:.1f}{share} MB fetched', 'current')


def _check_room(size: int, folder: Path, what: str, address: str) -> None:
    room = min(shutil.disk_usage(folder).free, MAX_BYTES)
    if size > room:
        raise cannot_fetch(
            what,
            address,
            f'it claims {size / 1e6:.1f} MB, and there is room for {room / 1e6:.1f} MB in {folder}',
            'Make room or set TORCH_HOME to another folder',
        )
