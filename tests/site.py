"""A web server of this process that answers as a test says."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = bytes | Callable[[BaseHTTPRequestHandler], None]


class Site:
    """Serves ``pages`` by path at ``url`` and notes what was ``asked``."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self) -> None:
                path = self.path.partition('?')[0].lstrip('/')
                site.asked.append(path)
                page = site.pages.get(path)
                if page is None:
                    self.send_error(404)
                elif callable(page):
                    page(self)
                else:
                    self.send_response(200)
                    self.send_header('Content-Length', str(len(page)))
                    self.end_headers()
                    self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def redirect(to: str, code: int = 302) -> Page:
    """A page that is elsewhere."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header('Location', to)
        handler.send_header('Content-Length', '0')
        handler.end_headers()

    return answer


def torn(content: bytes, claim: int) -> Page:
    """A page that claims to have ``claim`` bytes and breaks off after ``content``."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', str(claim))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def torn_chunks(content: bytes) -> Page:
    """The same in chunks, whose last one is missing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header('Transfer-Encoding', 'chunked')
        handler.end_headers()
        handler.wfile.write(b'%x\r\n%s\r\n' % (len(content), content))
        handler.close_connection = True

    return answer


def without_length(content: bytes) -> Page:
    """A page that ends where the connection does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def silent(started: bytes, over: threading.Event) -> Page:
    """A page that says no more after ``started``, until ``over``."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', '1000000')
        handler.end_headers()
        handler.wfile.write(started)
        handler.wfile.flush()
        over.wait(20)
        handler.close_connection = True

    return answer


def dripping(over: threading.Event) -> Page:
    """A page of one byte now and then, without end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', '1000000')
        handler.end_headers()
        while not over.wait(0.02):
            handler.wfile.write(b'x')

    return answer
