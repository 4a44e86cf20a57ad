"""Chromium, told what to do over its own protocol: no script runs in the pages.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import aiohttp

T = TypeVar("T")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--blink-settings=scriptEnabled=false",
)
_WITHIN_S = 20

PHONE_PX = 390
DESKTOP_PX = 1280


class Browser:
    """One page, used with the keyboard; as wide as a phone, or a desktop's.

    :param width: of the page, in CSS pixels.
    """

    def __init__(self, width: int = PHONE_PX) -> None:
        self._width = width
        self._runner = asyncio.Runner()
        self._messages: list[dict[str, Any]] = []
        self._last = 0

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [str(CHROMIUM), *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._run(self._connect(self._address()))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._session.close())
        self._process.terminate()
        self._process.communicate(timeout=_WITHIN_S)
        self._runner.close()
        self._profile.cleanup()

    def open(self, url: str) -> None:
        self._run(self._load("Page.navigate", url=url))

    def type(self, selector: str, text: str) -> None:
        """Type into a field, in the place of what is there."""
        self._run(self._type(selector, text))

    def choose(self, selector: str, text: str) -> None:
        """Choose from a list, by typing how the choice begins."""
        self._run(self._choose(selector, text))

    def press_enter(self, selector: str) -> None:
        """Press Enter on a field or button, and wait for the page that comes of it."""
        self._run(self._press_enter(selector))

    @property
    def url(self) -> str:
        history = self._run(self._call("Page.getNavigationHistory"))
        return str(history["entries"][history["currentIndex"]]["url"])

    @property
    def html(self) -> str:
        return str(self._run(self._html()))

    @property
    def is_too_wide(self) -> bool:
        """Whether there is something to scroll to the right for."""
        metrics = self._run(self._call("Page.getLayoutMetrics"))
        return bool(
            metrics["cssContentSize"]["width"] > metrics["cssLayoutViewport"]["clientWidth"]
        )

    def style(self, selector: str, name: str) -> str:
        return str(self._run(self._style(selector, name)))

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(asyncio.wait_for(doing, _WITHIN_S))

    def _address(self) -> str:
        assert self._process.stderr
        for line in self._process.stderr:
            if match := re.search(r"DevTools listening on (ws://\S+)", line):
                return match[1]
        raise RuntimeError("Chromium did not start.")

    async def _connect(self, address: str) -> None:
        base = re.sub(r"^ws://([^/]+)/.*", r"http://\1", address)
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"{base}/json/list") as response:
            [page] = [each for each in await response.json() if each["type"] == "page"]
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"])
        for domain in ("Page", "DOM", "CSS"):
            await self._call(f"{domain}.enable")
        is_phone = self._width <= PHONE_PX
        await self._call(
            "Emulation.setDeviceMetricsOverride",
            width=self._width,
            height=844,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self._messages.append(message)

    async def _load(self, method: str, **params: Any) -> None:
        """Do something, and wait for the page that is loaded then."""
        self._messages.clear()
        await self._call(method, **params)
        while not any(each.get("method") == "Page.loadEventFired" for each in self._messages):
            self._messages.append(await self._socket.receive_json())

    async def _node(self, selector: str) -> int:
        document = await self._call("DOM.getDocument")
        found = await self._call(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector
        )
        if not found["nodeId"]:
            raise LookupError(selector)
        return int(found["nodeId"])

    async def _type(self, selector: str, text: str) -> None:
        node = await self._node(selector)
        await self._call("DOM.focus", nodeId=node)
        await self._call(
            "Input.dispatchKeyEvent", type="keyDown", key="a", commands=["selectAll"], modifiers=2
        )
        await self._call("Input.insertText", text=text)

    async def _choose(self, selector: str, text: str) -> None:
        await self._call("DOM.focus", nodeId=await self._node(selector))
        for character in text:
            await self._call("Input.dispatchKeyEvent", type="keyDown", text=character)
            await self._call("Input.dispatchKeyEvent", type="keyUp")

    async def _press_enter(self, selector: str) -> None:
        await self._call("DOM.focus", nodeId=await self._node(selector))
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self._load("Input.dispatchKeyEvent", type="keyDown", **enter)

    async def _html(self) -> str:
        document = await self._call("DOM.getDocument")
        found = await self._call("DOM.getOuterHTML", nodeId=document["root"]["nodeId"])
        return str(found["outerHTML"])

    async def _style(self, selector: str, name: str) -> str:
        found = await self._call("CSS.getComputedStyleForNode", nodeId=await self._node(selector))
        styles = {each["name"]: each["value"] for each in found["computedStyle"]}
        return str(styles[name])
