"""A real server and a real browser for the tests of pages; reached through the fixture ``browsing``."""

from __future__ import annotations

import gzip
import importlib.util
import math
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from auriscope.study.study import Study
from auriscope.study.web.app import create_app

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

# Where every picture of a page is kept, to be looked at.
PICTURES = os.environ.get("AURISCOPE_PICTURES")


class _Server(uvicorn.Server):
    def __init__(self, study: Study) -> None:
        config = uvicorn.Config(create_app(study), port=0, log_config=None, timeout_graceful_shutdown=1)
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serve(study: Study) -> Iterator[str]:
    """Serve a study in a thread, as ``study serve`` does, and give its address."""
    server = _Server(study)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.ready.wait(30)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        # Browsers give the microphone to secure addresses and to localhost.
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


class Cable:
    """A cable between a browser and a server that can be cut in the middle of what is sent, and mended."""

    def __init__(self, address: str) -> None:
        self._target = ("localhost", int(address.rpartition(":")[2]))
        self._listener = socket.create_server(("localhost", 0))
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._left: float = math.inf
        self.address = f"http://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, num_bytes: int) -> None:
        """Let only so many more bytes through to the server, then break every connection and take no new one."""
        with self._lock:
            self._left = num_bytes

    @property
    def is_cut(self) -> bool:
        """Whether nothing goes through."""
        return self._left <= 0

    def mend(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._left = math.inf

    def close(self) -> None:
        """Take it away."""
        self._listener.close()
        self._break()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            with self._lock:
                self._ends += [near, far]
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if is_upwards:
                    with self._lock:
                        self._left -= len(data)
                if self.is_cut:
                    self._break()
                    return
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _break(self) -> None:
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                # Unread bytes and no farewell: the other side sees a broken connection.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def cable_to(address: str) -> Iterator[Cable]:
    """Give a cable to a server."""
    cable = Cable(address)
    try:
        yield cable
    finally:
        cable.close()


class Browsing:
    """Chromium for the tests of one module."""

    def __init__(self) -> None:
        if not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None:
            pytest.skip("needs /usr/bin/chromium and playwright")
        from playwright.sync_api import sync_playwright

        self._stack = ExitStack()
        self._playwright = self._stack.enter_context(sync_playwright())
        self._browsers: dict[Path | None, Any] = {}

    def chromium(self, microphone: Path | None = None) -> Any:
        """Give a browser, whose microphone plays a WAV file over and over; without one the microphone is refused."""
        if microphone not in self._browsers:
            arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]
            if microphone is not None:
                arguments.append("--use-fake-ui-for-media-stream")
                arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
            launched = self._playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
            self._browsers[microphone] = self._stack.enter_context(_closing(launched))
        return self._browsers[microphone]

    def page(self, microphone: Path | None = None, *, phone: bool = False, **context: Any) -> Any:
        """Open a page in a context of its own; ``page.problems`` lists what its console complains of."""
        settings = {"viewport": PHONE if phone else DESKTOP, "has_touch": phone, "is_mobile": phone, **context}
        return watched(self.chromium(microphone).new_context(**settings).new_page())

    serve = staticmethod(serve)
    cable_to = staticmethod(cable_to)

    @staticmethod
    def watched(page: Any) -> Any:
        """Give a page back, whose ``problems`` lists what its console complains of from now on."""
        return watched(page)

    @staticmethod
    def axe(page: Any) -> list[tuple[str, str]]:
        """Give what axe-core finds wrong with a page: rules and elements."""
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(found["passes"]) > 5
        return [(violation["id"], node["html"]) for violation in found["violations"] for node in violation["nodes"]]

    def look(self, page: Any, name: str, *, expected: str = "") -> None:
        """See that a page is accessible, fits its screen and complains of nothing, in the light and in the dark.

        Complaints that hold the text ``expected``, such as that of an answer 409, do not count.
        """
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            if PICTURES:
                page.screenshot(path=str(Path(PICTURES) / f"{name}-{scheme}.png"), full_page=True)
            assert self.axe(page) == [], f"{name}, {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name
        assert [problem for problem in page.problems if not expected or expected not in problem] == [], name

    def close(self) -> None:
        """Close all browsers."""
        self._stack.close()


def watched(page: Any) -> Any:
    """Give a page whose ``problems`` lists what its console complains of."""
    page.problems = []
    page.on(
        "console",
        lambda message: page.problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    return page


@contextmanager
def _closing(browser: Any) -> Iterator[Any]:
    try:
        yield browser
    finally:
        browser.close()
