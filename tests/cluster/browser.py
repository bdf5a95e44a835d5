"""Headless Chromium, told what to do over a pipe in the words of the DevTools protocol.

with browsing(folder) as browser:
    page = browser.open("http://127.0.0.1:9333/")
    wait_until(lambda: "leads" in page.text, "somebody leads")
    page.picture(folder / "page.png")
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0  # seconds for an answer of the browser
_END = b"\0"


@attrs.define(eq=False)
class Browser:
    """The process, and both ends of the pipe that are ours."""

    process: "subprocess.Popen[bytes]"
    to: int
    back: int
    complaints: list[str] = attrs.Factory(list)  # what pages logged as errors, and exceptions of scripts
    asked: list[str] = attrs.Factory(list)  # addresses that were asked for
    _number: int = 0
    _received: bytes = b""

    def call(self, method: str, session: str = "", /, **parameters: Any) -> dict[str, Any]:
        """Do something, and give what comes back."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + _END)
        until = time.monotonic() + PATIENCE
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self, until: float) -> dict[str, Any]:
        while _END not in self._received:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser says nothing for {PATIENCE:g} s"
            more = os.read(self.back, 1 << 20)
            assert more, "the browser has ended"
            self._received += more
        line, _, self._received = self._received.partition(_END)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Log.entryAdded" if told["entry"]["level"] == "error" and told["entry"]["source"] != "network":
                self.complaints.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])

    def open(self, url: str, *, script: bool = True, width: int = 1280, height: int = 900) -> "Tab":
        """A new page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setFocusEmulationEnabled", enabled=True)  # it is the page that somebody looks at
        tab.resize(width, height)
        if not script:
            tab.call("Emulation.setScriptExecutionDisabled", value=True)
        tab.call("Page.navigate", url=url)
        return tab


@attrs.frozen(eq=False)
class Tab:
    """One page."""

    browser: Browser
    session: str

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do something with this page."""
        return self.browser.call(method, self.session, **parameters)

    def value(self, expression: str) -> Any:
        """What a script comes to."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    @property
    def text(self) -> str:
        """Everything that can be read on it; "" before there is a page."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Another window, or the one of a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def prefer(self, scheme: str) -> None:
        """Somebody who likes it "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser until the end of the block, which keeps its things in `folder`."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium; .ci/run installs it")
        pytest.skip("there is no chromium on this machine (apt-get install chromium)")
    commands, to = os.pipe()
    back, answers = os.pipe()
    # The browser reads commands at 3 and writes answers at 4.
    words = [
        *("bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{answers}', CHROMIUM),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={folder / 'chromium'}", "--remote-debugging-pipe", "about:blank"),
    ]
    with (folder / "chromium.txt").open("wb") as log:
        process = subprocess.Popen(
            words, pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    os.close(commands)
    os.close(answers)
    browser = Browser(process, to, back)
    try:
        yield browser
        browser.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(to)
        os.close(back)
