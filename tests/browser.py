"""A headless Chromium driven over its DevTools protocol: enough to press, type, look, and take a picture.

Debian's package `chromium` is all it needs; aiohttp, which speaks WebSocket, comes with Ray. No driver binary, no
download. `Browser.unavailable_reason()` says why a test has to be skipped.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root in a container there is none to be had
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27, "Tab": 9}
START_SECONDS = 30.0


class Browser:
    """One browser with one page, its window `width` wide; use as a context manager."""

    def __init__(self, width: int = 1200, height: int = 900) -> None:
        self._size = (width, height)
        self._profile = tempfile.mkdtemp(prefix="mgc-chromium-")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.problems: list[str] = []
        """What pages threw, were refused by their content security policy, or tried to fetch."""

    @staticmethod
    def path() -> str | None:
        """Return the program; MGC_CHROMIUM names another one."""
        named = os.environ.get("MGC_CHROMIUM")
        return named or next((found for name in NAMES if (found := shutil.which(name))), None)

    @classmethod
    def unavailable_reason(cls) -> str | None:
        if cls.path() is None:
            return "no Chromium on this machine (Debian: apt-get install chromium; or set MGC_CHROMIUM)"
        return None

    def __enter__(self) -> Browser:
        self._process = subprocess.Popen(
            [str(self.path()), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._thread.start()
        self._run(self._connect())
        self.send("Page.enable")
        self.send("Runtime.enable")
        self.send("Log.enable")
        self.send("Network.enable")
        self.emulate()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)

    def emulate(self, *, dark: bool = False, width: int | None = None, height: int | None = None) -> None:
        """Set the colour scheme and the size of the window."""
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        size = {"width": width or self._size[0], "height": height or self._size[1]}
        self.send("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)

    def open(self, path: Path, ready: str = "true") -> None:
        """Load a page from disk and wait until an expression is true."""
        self.problems.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"location.href !== 'about:blank' && document.readyState === 'complete' && ({ready})")

    def run(self, expression: str) -> Any:
        """Return the value of an expression, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"].get("description", "the page threw"))
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true."""
        polled = f"""new Promise((done) => {{
            const end = performance.now() + {1000 * seconds};
            const look = () => {{
                if ({expression}) return done(true);
                return performance.now() > end ? done(false) : setTimeout(look, 20);
            }};
            look();
        }})"""
        assert self.run(polled), f"did not come true: {expression}"

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first element that fits."""
        place = self.run(
            f"""(() => {{ const one = document.querySelector({json.dumps(selector)});
            one.scrollIntoView({{ block: "center" }}); const box = one.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        )
        self.press_at(*place)

    def press_at(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point_at(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name: str) -> None:
        """Press one of `KEYS`."""
        event = {"key": name, "code": name, "windowsVirtualKeyCode": KEYS[name]}
        text = {"text": "\r"} if name == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field, in place of what was there, as if it were typed."""
        self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.focus(); one.select(); }})()"
        )
        self.send("Input.insertText", text=text) if text else self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.value = ''; "
            "one.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def choose(self, selector: str, value: str) -> None:
        """Choose an option."""
        self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.value = {json.dumps(value)}; "
            "one.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        return self._run(self._call(method, parameters))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _connect(self) -> None:
        port_file = Path(self._profile) / "DevToolsActivePort"
        for _ in range(int(START_SECONDS / 0.05)):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            await asyncio.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        self._reading = asyncio.ensure_future(self._read())

    async def _close(self) -> None:
        self._reading.cancel()
        await self._socket.close()
        await self._session.close()

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        self._waiting[self._number] = future = self._loop.create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(future, 90)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']['message']}")
        return dict(answer.get("result", {}))

    async def _read(self) -> None:
        async for message in self._socket:
            value = json.loads(message.data)
            if value.get("id") in self._waiting:
                self._waiting.pop(value["id"]).set_result(value)
            elif value.get("method") == "Runtime.exceptionThrown":
                self.problems.append(value["params"]["exceptionDetails"]["exception"].get("description", "thrown"))
            elif value.get("method") == "Log.entryAdded":
                self.problems.append(value["params"]["entry"]["text"])
            elif value.get("method") == "Network.requestWillBeSent":
                url = value["params"]["request"]["url"]
                if not url.startswith(("file:", "blob:")):
                    self.problems.append(f"fetched {url[:100]}")
