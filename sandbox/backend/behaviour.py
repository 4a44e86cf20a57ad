"""The backend's behavior for development, which the query of the registered URL controls.

- ``reject=busy`` or ``rejected``, with ``message=…`` if something is to be said;
- ``transfer=+1…``;
- ``greeting=…``, or empty for none;
- ``omit=field,field``: a response without them;
- ``set={…}``: a response with these fields instead of its own;
- ``raw=…``: a response whose body is this text, as it stands;
- ``tool-error=status``: every tool fails with that status;
- ``script=[…]``: for the sandbox's model, see its README;
- on every callback ``slow=seconds`` and ``error=status``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox.backend.restaurant import CREDENTIALS, configuration, with_script

LONGEST_DELAY_S = 120.0


class WrongQuery(ValueError):
    """The query requests something that does not exist; the message says what."""


def answer_to_call(call: Mapping[str, Any], tools_url: str, query: Mapping[str, str]) -> Any:
    """Return the response to onCallStart."""
    tool_error = query.get("tool-error")
    answer = _answer(call, f"{tools_url}?error={tool_error}" if tool_error else tools_url, query)
    answer |= _fields(query.get("set", "{}"))
    for name in query.get("omit", "").split(","):
        answer.pop(name, None)
    return answer


def _answer(call: Mapping[str, Any], tools_url: str, query: Mapping[str, str]) -> dict[str, Any]:
    if reason := query.get("reject"):
        return {"reject": True, "reason": reason, **_spoken(query.get("message", ""))}
    if number := query.get("transfer"):
        # A plus sign in a query decodes to a space.
        return {"transfer": f"+{number.strip().removeprefix('+')}", **CREDENTIALS}
    plan = configuration(call, tools_url)
    if "greeting" in query:
        plan["greeting"] = query["greeting"]
    if "script" in query:
        try:
            plan["systemPrompt"] = with_script(plan["systemPrompt"], query["script"])
        except ValueError as error:
            raise WrongQuery(f"script is not JSON: {error}.") from None
    return plan


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise WrongQuery(f"set is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise WrongQuery("set is not a JSON object.")
    return fields


def raw_answer(query: Mapping[str, str]) -> str | None:
    """Return the body of every response, if the query has one."""
    return query.get("raw")


def _spoken(message: str) -> dict[str, str]:
    return {"message": message, **CREDENTIALS} if message else {}


def delay_s(query: Mapping[str, str]) -> float:
    try:
        delay = float(query.get("slow", 0))
    except ValueError:
        raise WrongQuery("slow is not a number of seconds.") from None
    return min(max(delay, 0.0), LONGEST_DELAY_S)


def error_status(query: Mapping[str, str]) -> int | None:
    status = query.get("error")
    if status is None:
        return None
    if not (status.isdecimal() and 300 <= int(status) < 600):
        raise WrongQuery("error is not an HTTP status from 300 to 599.")
    return int(status)
