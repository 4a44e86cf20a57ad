"""``/api/calls``

Each filter of the list has an index, and a combination uses one: see ``telephony.call_search``.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.models import Account
from accounts.permissions import IsActiveOrReadOnly
from core import keyset
from core.api import (
    AnswerSerializer,
    MomentField,
    ObjectSerializer,
    TextField,
    UtcDateTimeField,
    page_with_cursor,
)
from core.schema import PAGE, endpoint
from telephony.api.fields import AnswerFields, MetadataField, OptionalTextField
from telephony.call_search import LONGEST_VALUE, MOST_VALUES, Conditions, calls_found
from telephony.engine.codes import OUTCOMES, EventKind
from telephony.hangup import call_request_hangup
from telephony.models import FAILED_IN_ORDER, Call, CallbackDelivery, CallEvent, FailedRequest
from telephony.numbering import parse_number
from telephony.timelines import timeline_of
from telephony.twilio_rest import CALL_SID
from usage.models import UsageRecord
from usage.serializers import CostBreakdownSerializer


class FilterSerializer(ObjectSerializer):
    """The filters of the list. Those that are given must all match."""

    since = MomentField(required=False, help_text="Calls made at this time, or later.")
    until = MomentField(required=False, help_text="Calls made before this time.")
    live = serializers.BooleanField(
        required=False, help_text="Only calls in progress (`true`) or ended calls (`false`)."
    )
    direction = serializers.ChoiceField(Call.Direction.choices, required=False)
    outcome = serializers.ChoiceField(OUTCOMES, required=False)
    errorCode = TextField(required=False, max_length=80, help_text="Calls with this `errorCode`.")
    phoneNumber = TextField(
        required=False, max_length=64, help_text="Calls of this number of yours, in E.164."
    )
    otherPhone = TextField(
        required=False,
        max_length=64,
        help_text="Calls from or to this number of another party, in E.164.",
    )
    metadata = TextField(
        required=False,
        max_length=LONGEST_VALUE,
        help_text="Calls with this string or number in their metadata, at any depth. The first "
        f"{MOST_VALUES} values of a call can be found, if they have at most {LONGEST_VALUE} "
        "characters.",
    )
    callSid = TextField(required=False, max_length=34)
    id = TextField(required=False, max_length=25)

    def conditions(self) -> Conditions:
        given = self.validated_data
        return Conditions(
            since=given.get("since"),
            until=given.get("until"),
            is_live=given.get("live"),
            number=_number_in(given.get("phoneNumber", "")),
            other_number=_number_in(given.get("otherPhone", "")),
            **{name: given[key] for key, name in _CONDITIONS.items() if key in given},
        )


def _number_in(text: str) -> str:
    """Return a number in E.164. A plus sign that a client did not encode arrives as a space."""
    return parse_number(text) or text


# The texts among the filters, by their names in the API.
_CONDITIONS = {
    "direction": "direction",
    "outcome": "outcome",
    "errorCode": "error_code",
    "metadata": "metadata",
    "callSid": "call_sid",
    "id": "id",
}
CURSOR = OpenApiParameter(
    "cursor",
    {"type": "string", "pattern": f"^{keyset.CURSOR.pattern}$"},
    description="The `nextCursor` of the page before. Unlike `offset`, it takes the same time on "
    "every page, and calls that come in meanwhile shift nothing. Leave out `offset`.",
)


@extend_schema_field(
    {
        "anyOf": [{"$ref": "#/components/schemas/EndedReason"}],
        "description": "As in onCallEnd. Null while the call is in progress.",
    }
)
class EndedReasonField(OptionalTextField):
    """An :class:`EndedReason`, or null."""


@extend_schema_field(
    {
        "type": "string",
        "enum": OUTCOMES,
        "description": "How the call came out: `completed` went well, `unanswered` was never "
        "answered, `rejected` was rejected by your backend, and `failed` needs your attention.",
    }
)
class OutcomeField(serializers.CharField):
    """An outcome: see ``outcome_of``."""


class LatencySerializer(ObjectSerializer):
    """How fast the agent responded, in milliseconds. Null until the call ends, and where nothing
    was measured.
    """

    firstAudioMs = serializers.IntegerField(
        allow_null=True,
        min_value=0,
        help_text="From the caller's connection to the agent's first words. Null unless the agent "
        "spoke first.",
    )
    turnP50Ms = serializers.IntegerField(
        allow_null=True,
        min_value=0,
        help_text="From the end of the caller's speech to the first audio of the response, tools "
        "included: half of the turns were this fast or faster.",
    )
    turnP95Ms = serializers.IntegerField(
        allow_null=True,
        min_value=0,
        help_text="The same for 95% of the turns.",
    )


class CallSerializer(serializers.ModelSerializer[Call]):
    callSid = serializers.CharField(
        source="call_sid",
        allow_null=True,
        help_text="Twilio's identifier of the call. Null until Twilio has accepted the call.",
    )
    callerPhone = serializers.CharField(source="caller_phone")
    calledNumber = serializers.CharField(source="called_number")
    answeredBy = OptionalTextField(source="answered_by", allow_null=True)
    endedReason = EndedReasonField(source="ended_reason", allow_null=True)
    outcome = OutcomeField()
    errorCode = OptionalTextField(
        source="error_code",
        allow_null=True,
        help_text="What went wrong: why the call failed or, if it completed, its first problem. "
        "Null if nothing did.",
    )
    metadata = MetadataField(allow_null=True)
    createdAt = UtcDateTimeField(source="created_at")
    answeredAt = UtcDateTimeField(
        source="answered_at", allow_null=True, help_text="When the caller was connected."
    )
    endedAt = UtcDateTimeField(source="ended_at", allow_null=True)
    durationSeconds = serializers.IntegerField(source="duration_seconds")
    latency = LatencySerializer()

    class Meta:
        model = Call
        fields = [
            "id",
            "callSid",
            "direction",
            "status",
            "callerPhone",
            "calledNumber",
            "answeredBy",
            "endedReason",
            "outcome",
            "errorCode",
            "metadata",
            "createdAt",
            "answeredAt",
            "endedAt",
            "durationSeconds",
            "latency",
        ]


@extend_schema_field(
    {
        "type": "string",
        "description": "\n".join(
            [
                "The kind of event. More may be added.\n",
                *(f"- `{kind}`: {kind.meaning}." for kind in EventKind),
            ]
        ),
    }
)
class EventKindField(serializers.CharField):
    """An :class:`EventKind`."""


@extend_schema_field({"type": "object", "additionalProperties": True})
class EventDetailField(serializers.JSONField):
    """The details of an event, which depend on its kind."""


class CallEventSerializer(serializers.ModelSerializer[CallEvent]):
    """An event and its time; never what was said."""

    at = UtcDateTimeField()
    kind = EventKindField()
    detail = EventDetailField()

    class Meta:
        model = CallEvent
        fields = ["at", "kind", "detail"]


class CallbackSerializer(serializers.ModelSerializer[CallbackDelivery]):
    lastResult = OptionalTextField(
        source="last_result",
        allow_null=True,
        help_text="An HTTP status, or what went wrong; `endpoint_failing` while it is held back.",
    )
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = CallbackDelivery
        fields = ["id", "kind", "state", "attempts", "lastResult", "createdAt"]
        read_only_fields = fields


class FailedRequestSerializer(AnswerFields, serializers.ModelSerializer[FailedRequest]):
    """An onCallStart or onToolCall that failed, and your backend's response."""

    kind = serializers.ChoiceField(FailedRequest.Kind.values)
    tool = OptionalTextField(allow_null=True, help_text="The name of the tool, for onToolCall.")
    url = serializers.CharField(help_text="The URL, without its query.")

    class Meta:
        model = FailedRequest
        fields = ["kind", "tool", "url", "at", "durationMs", "result", "answer"]


class CallDetailSerializer(CallSerializer):
    costBreakdown = serializers.SerializerMethodField()
    timeline = serializers.SerializerMethodField()
    callbacks = CallbackSerializer(many=True)
    failedRequests = FailedRequestSerializer(
        source="failed_requests",
        many=True,
        help_text=(
            "The failed onCallStart and the first failed onToolCall requests of the call, oldest "
            "first; kept for 30 days."
        ),
    )

    class Meta(CallSerializer.Meta):
        fields = [
            *CallSerializer.Meta.fields,
            "costBreakdown",
            "timeline",
            "callbacks",
            "failedRequests",
        ]

    @extend_schema_field(CallEventSerializer(many=True))
    def get_timeline(self, call: Call) -> Any:
        return CallEventSerializer(timeline_of(call), many=True).data

    @extend_schema_field(CostBreakdownSerializer(allow_null=True))
    def get_costBreakdown(self, call: Call) -> dict[str, int | float] | None:
        """Return None while the call is in progress, or if it never connected."""
        sid = call.call_sid or ""
        record = UsageRecord.objects.filter(account_id=call.account_id).by_call([sid]).get(sid)
        return record.cost_breakdown if record and call.ended_at else None


class CallAnswerSerializer(AnswerSerializer):
    call = CallDetailSerializer()


class CallsSerializer(AnswerSerializer):
    calls = CallSerializer(many=True)
    limit = serializers.IntegerField(help_text="The limit that was applied.")
    offset = serializers.IntegerField()
    hasMore = serializers.BooleanField()
    nextCursor = serializers.CharField(
        allow_null=True, help_text="The `cursor` of the next page. Null on the last page."
    )


CALL_ID = OpenApiParameter("id", str, "path", description="The call's `id`, or its `callSid`.")


class CallViewSet(ViewSet):
    permission_classes = [IsActiveOrReadOnly]

    @endpoint(
        "listCalls",
        "List calls",
        description="The newest first. The operator of this server can have old calls deleted.",
        parameters=[*PAGE, CURSOR, FilterSerializer],
        answers={200: CallsSerializer},
    )
    def list(self, request: AccountRequest) -> Response:
        filters = FilterSerializer(data=request.query_params.dict())
        filters.is_valid(raise_exception=True)
        found = calls_found(request.user, filters.conditions())
        page, about = page_with_cursor(request, found.calls, by=found.by)
        return Response({"calls": CallSerializer(page, many=True).data, **about})

    @endpoint(
        "getCall",
        "See a call: what happened and when, what it cost, which callbacks were delivered",
        parameters=[CALL_ID],
        answers={200: CallAnswerSerializer},
    )
    def retrieve(self, request: AccountRequest, pk: str) -> Response:
        return _one(_access(request.user, pk))

    @endpoint(
        "hangUpCall",
        "Hang up",
        description="It ends within seconds, or as soon as it is answered if it still rings.",
        parameters=[CALL_ID],
        answers={202: CallAnswerSerializer},
        errors={409: {"call_already_ended": "The call has already ended."}},
    )
    @action(detail=True, methods=["post"])
    def hangup(self, request: AccountRequest, pk: str) -> Response:
        """Respond with 202: a call ends within seconds, a ringing one as soon as it is answered."""
        call = _access(request.user, pk)
        return _one(call_request_hangup(call_id=call.id), status=202)


def _access(account: Account, reference: str) -> Call:
    """Return the account's call, by its id or its CallSid; raise 404 if there is none."""
    calls = Call.objects.of(account)
    by_sid = CALL_SID.fullmatch(reference) and calls.filter(call_sid=reference).first()
    return by_sid or calls.access(account, reference)


def _one(call: Call, *, status: int = 200) -> Response:
    prefetch_related_objects(
        [call],
        Prefetch("callbacks", CallbackDelivery.objects.defer("sealed_body").order_by("created_at")),
        FAILED_IN_ORDER,
    )
    return Response({"call": CallDetailSerializer(call).data}, status=status)
