"""The backend's page: its latest callbacks, newest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from sandbox.backend.journal import Entry

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; padding: .4rem 0; overflow-wrap: anywhere; }
time { opacity: .7; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
@media (prefers-color-scheme: dark) { :root { --good: #57d364; --bad: #ff7b72; } }
"""


def render(entries: Sequence[Entry], *, knows_a_secret: bool) -> str:
    """Return the page."""
    if knows_a_secret:
        signing = "Signatures are checked."
    else:
        signing = (
            "Signatures are not checked: no account's secret was told to POST /backend/secret."
        )
    callbacks = "".join(_callback(entry) for entry in reversed(entries))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rosa's Kitchen: callbacks</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Rosa's Kitchen</h1>
<p>A customer's backend, in the sandbox: it says how calls are handled, runs the model's tools and
is told how calls ended. {signing}</p>
<p><a href="">Reload</a> · <a href="callbacks">as JSON</a></p>
{callbacks or "<p>Nobody has called yet.</p>"}
</body>
</html>
"""


def _callback(entry: Entry) -> str:
    signatures = entry.signatures
    tone = "good" if signatures.are_fine and entry.status < 400 else "bad"
    return f"""<details>
<summary><time datetime="{entry.at.isoformat()}">{entry.at:%H:%M:%S}</time>
<strong>{escape(entry.callback)}</strong> {escape(_gist(entry.body))}
<span class="{tone}">{entry.status}</span></summary>
<p>Signatures: Standard Webhooks {signatures.standard}, X-Veevo-Signature {signatures.legacy}.</p>
<h2>Body</h2>
<pre>{_json(entry.body)}</pre>
<h2>Answer</h2>
<pre>{_json(entry.answer)}</pre>
</details>
"""


def _gist(body: Any) -> str:
    """Summarize the callback in a few words."""
    match body:
        case {"toolName": tool}:
            return str(tool)
        case {"endedReason": reason, "durationSeconds": seconds}:
            return f"{reason} after {seconds} s"
        case {"code": code}:
            return str(code)
        case {"callerPhone": caller, "calledNumber": called}:
            return f"{caller} calls {called}"
    return ""


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
