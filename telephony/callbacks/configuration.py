"""The fields of each answer to onCallStart, defined once.

Everything else follows from these definitions: how an answer is read (``answers``), the OpenAPI
document (``schema``), the tables of the guide (``docs.tables``) and the dashboard's callback check
(``check``). Defaults come from the engine's dataclasses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any

from core.schema import Json
from telephony.callbacks.kinds import (
    AccountSid,
    Choice,
    Flag,
    HeaderText,
    Kind,
    ListOf,
    Metadata,
    ModelHost,
    OneOrMany,
    Pattern,
    PhoneNumber,
    Switch,
    Text,
    Tools,
    Url,
    Whole,
)
from telephony.callbacks.problems import Problems
from telephony.engine.builtin_tools import BUILTIN_TOOLS
from telephony.engine.models import MODELS, lacks
from telephony.engine.plan import (
    LONGEST_AUTH_TOKEN,
    LONGEST_CALL_S,
    LONGEST_SPOKEN,
    LONGEST_TEST_CALL_S,
    CallPlan,
    Refusal,
    Transfer,
)

MOST_TOOLS = 128
# The caller hears nothing while they are tried, which takes ten seconds at most.
MOST_MODELS = 5

# By attribute. A field is required if it has no default here.
_DEFAULTS = {each.name: each.default for kind in (Refusal, CallPlan) for each in fields(kind)}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an answer. ``about`` and ``without`` are sentences for customers, in Markdown.

    ``without`` says what happens without an optional field that has no default.
    """

    name: str
    kind: Kind
    about: str
    without: str = ""
    # A field, further up, that needs this one.
    required_with: str = ""
    # What to do if it is missing from an answer that costs the customer money.
    remedy: str = ""
    example: Any = None
    is_secret: bool = False
    # A feature of models (see ``models.toml``) without which the field must be left out.
    needs: str = ""
    # The attribute in the engine's dataclass, if it is not the name in snake case.
    kept_as: str = ""

    @property
    def attribute(self) -> str:
        return self.kept_as or _snake_case(self.name)

    @property
    def is_required(self) -> bool:
        return self._default is MISSING

    @property
    def default(self) -> Any:
        """Return the value that an answer without the field has; None if it is required."""
        return None if self.is_required else self._default

    @property
    def _default(self) -> Any:
        return _DEFAULTS.get(self.attribute, MISSING)

    def is_given(self, body: Mapping[str, Any]) -> bool:
        """Return False if the field is left out or counts as left out, as null does."""
        return body.get(self.name) not in self.kind.empty

    def read(self, body: Mapping[str, Any], problems: Problems) -> Any:
        """Return the value as the engine has it, or the default; add a problem if it is invalid."""
        if not self.is_given(body):
            return self.default
        value = self.kind.read(self.name, body[self.name], problems)
        return self.default if value is None else value

    def in_words(self) -> str:
        """Return its description with every limit, in Markdown."""
        return self._sentences(self.kind.limits())

    def _sentences(self, limits: str) -> str:
        needs = f"Required with `{self.required_with}`." if self.required_with else ""
        models = self._models()
        told = (self.about, limits, self.kind.more_limits(), self.without, needs, models)
        return " ".join(filter(None, told))

    def _models(self) -> str:
        """Return which models have the field, unless all have it that may be chosen."""
        fit = {name for name, model in MODELS.items() if self.needs in model.features}
        of_realtime = {name for name, model in MODELS.items() if model.protocol == "realtime"}
        if not self.needs or fit == {*MODELS}:
            return ""
        if fit == of_realtime:
            return "Not for Live models."
        return f"Only for {', '.join(f'`{name}`' for name in MODELS if name in fit)}."

    def misfit(self, body: Mapping[str, Any], models: Sequence[str]) -> str:
        """Return the error for a field that one of the models does not have; "" for none."""
        is_off = body.get(self.name) is False
        if not self.needs or is_off or not self.is_given(body):
            return ""
        lacking = next((each for each in models if lacks(each, self.needs)), "")
        return lacking and f"{lacking} does not have this. Leave it out, or use another model."

    def schema(self) -> Json:
        """Return its JSON Schema."""
        least = {"minLength": 1} if self.is_required and isinstance(self.kind, Text) else {}
        default = {"default": self.default} if self.default else {}
        examples = {} if self.example is None else {"examples": [self.example]}
        description = {"description": self._sentences(limits="")}
        return self.kind.schema() | least | description | default | examples


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer: the dataclass that it becomes, and its fields.

    ``costs`` begins the sentence that says why the answer needs credentials.
    """

    becomes: type[CallPlan | Refusal | Transfer]
    fields: tuple[Field, ...]
    costs: str = ""

    def required(self) -> list[str]:
        return [each.name for each in self.fields if each.is_required]

    def missing(self, field: Field) -> str:
        """Return the error for a required field that is missing."""
        if not (self.costs and field.remedy):
            return "This field is required."
        return f"{self.costs} is charged to your Twilio account. {field.remedy}"


_CREDENTIALS = (
    Field(
        "twilioAccountSid",
        AccountSid(),
        "The Account SID of the Twilio account that the call comes from.",
        remedy="Name the account that the call comes from.",
        example="AC0123456789abcdef0123456789abcdef",
    ),
    Field(
        "twilioAuthToken",
        Text(LONGEST_AUTH_TOKEN),
        "The auth token of that account. It verifies Twilio's signature, and is not kept after the "
        "call.",
        remedy="Add the auth token that its requests are signed with.",
        example="your_twilio_auth_token",
        is_secret=True,
    ),
)

CONFIGURATION = Answer(
    CallPlan,
    (
        *_CREDENTIALS,
        Field(
            "openaiApiKey",
            HeaderText(512),
            "Your OpenAI API key. OpenAI checks it when the call begins. It is not kept "
            "after the call.",
            example="your_openai_key",
            is_secret=True,
        ),
        Field(
            "openaiBaseUrl",
            ModelHost(),
            "Where the model runs, if not at OpenAI itself: the base URL in Azure OpenAI or in "
            "OpenAI's European region.",
            needs="other_hosts",
            example="https://your-resource.openai.azure.com/openai/v1",
        ),
        Field(
            "systemPrompt",
            # OpenAI takes 16,384 tokens of instructions and tools, of some four characters each.
            Text(65_536),
            "What the model is, what it knows and how it behaves.",
            example="You answer the phone of a restaurant.",
        ),
        Field(
            "greeting",
            Text(LONGEST_SPOKEN),
            "What the model says first.",
            without="Without it, the model waits until the caller speaks.",
            example="Good evening! How can I help you?",
        ),
        Field(
            "greetingCache",
            Switch(),
            "`true` keeps the audio of the `greeting`, encrypted, for 24 hours. Your calls with "
            "the same greeting, model and voice play it at once, and do not ask the model for it.",
            needs="greeting_cache",
        ),
        Field(
            "greetingUrl",
            Url(),
            "An MP3 of at most two minutes that Twilio plays before the model is connected. Test "
            "calls skip it.",
            example="https://your-backend.com/greeting.mp3",
        ),
        Field(
            "tools",
            Tools(most=MOST_TOOLS, most_bytes=64 * 1024),
            "Functions of your backend that the model may call.",
            example=[
                {
                    "type": "function",
                    "name": "look_up_order",
                    "description": "Find out where an order is.",
                    "parameters": {
                        "type": "object",
                        "properties": {"number": {"type": "string"}},
                        "required": ["number"],
                    },
                }
            ],
        ),
        Field(
            "onToolCallUrl",
            Url(),
            "The URL of your backend that runs the tools.",
            required_with="tools",
            example="https://your-backend.com/calls/tool",
        ),
        Field(
            "builtinTools",
            ListOf(Choice(tuple(BUILTIN_TOOLS)), most=len(BUILTIN_TOOLS)),
            "What the model may do with the call.",
            without="Without it, the model cannot hang up.",
            example=["end_call"],
        ),
        Field(
            "transferNumbers",
            ListOf(
                PhoneNumber(),
                least=1,
                most=100,
                too_few="Name a number, or leave transfer_call out of builtinTools.",
            ),
            "The only numbers that `transfer_call` may dial.",
            without="Without it, the model may dial any number that Switchhook may call.",
            example=["+15559876543"],
        ),
        Field(
            "voice",
            Choice(
                (
                    "alloy",
                    "ash",
                    "ballad",
                    "coral",
                    "echo",
                    "sage",
                    "shimmer",
                    "verse",
                    "marin",
                    "cedar",
                )
            ),
            "The model's voice.",
        ),
        Field(
            "model",
            OneOrMany(
                ListOf(
                    Pattern(
                        re.compile(r"gpt-(?:realtime|live)[A-Za-z0-9._-]{0,88}"),
                        "Use the name of a gpt-realtime or gpt-live model.",
                        "Any name that begins with `gpt-realtime` or `gpt-live`, and at most 88 "
                        "characters after that.",
                    ),
                    least=1,
                    most=MOST_MODELS,
                    too_few="Name a model.",
                )
            ),
            "The OpenAI model that talks to the caller. In a list, the next one follows "
            "if a model cannot be reached or refuses the call.",
            example=["gpt-realtime-2.1", "gpt-realtime-1.5"],
        ),
        Field(
            "reasoningEffort",
            Choice(("minimal", "low", "medium", "high", "xhigh")),
            "How much the model reasons before it speaks. More effort means a later response.",
            without="Without it, OpenAI's default for the model.",
            needs="reasoning",
        ),
        Field(
            "maxOutputTokens",
            Whole(1, 4_096),
            "The most tokens of one response, tool calls included. A response that reaches it is "
            "cut off.",
            without="Without it, a response may be as long as the model allows.",
            needs="max_output_tokens",
        ),
        Field(
            "vadEagerness",
            Choice(("low", "medium", "high", "auto")),
            "How soon a pause counts as the end of a sentence.",
            needs="turn_detection",
        ),
        Field(
            "noiseReduction",
            Choice(("near_field", "far_field")),
            "How noise is reduced: near the microphone of a handset, or far from that of a "
            "speakerphone.",
            needs="noise_reduction",
        ),
        Field(
            "inactivityTimeoutMs",
            Whole(1_000, 3_600_000),
            "The call ends when nobody has spoken for this many milliseconds.",
        ),
        Field(
            "maxDurationSeconds",
            Whole(1, LONGEST_CALL_S),
            "The call ends after this many seconds: Twilio ends every call after four hours. A "
            f"test call in the browser ends after {LONGEST_TEST_CALL_S} at most.",
        ),
        Field(
            "metadata",
            Metadata(),
            "Any JSON. Every later callback of the call includes it.",
            example={"customerId": "cust_123"},
        ),
    ),
)
REFUSAL = Answer(
    Refusal,
    (
        Field("reject", Flag(), "`true` rejects the call."),
        Field("reason", Choice(("busy", "rejected")), "What the caller's phone is told."),
        Field(
            "message",
            Text(LONGEST_SPOKEN),
            "Switchhook answers the call, says this and hangs up. Requires `twilioAccountSid` and "
            "`twilioAuthToken`.",
            without="Without it, the call is not answered.",
        ),
    ),
)
SPOKEN_REFUSAL = Answer(Refusal, (*REFUSAL.fields, *_CREDENTIALS), costs="A spoken message")
TRANSFER = Answer(
    Transfer,
    (
        Field(
            "transfer",
            PhoneNumber(),
            "Switchhook transfers the caller to this number, without a model.",
            kept_as="to",
        ),
        *_CREDENTIALS,
    ),
    costs="A transfer",
)
