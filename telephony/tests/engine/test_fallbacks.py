"""A model that does not start is followed by the next one of the plan."""

import pytest

from telephony.engine.actions import ConnectModel, Finish, Note, ReportError
from telephony.engine.codes import EventKind
from telephony.engine.events import (
    AgentAudioStarted,
    CallerTyped,
    ModelClosed,
    ModelConfigured,
    ModelReady,
    ModelUnreachable,
    SpeechStarted,
)
from telephony.engine.startup import STARTUP_S
from telephony.tests.engine.conversation import Conversation, Sent, errored

FIRST, SECOND, THIRD = "gpt-realtime-2.1", "gpt-realtime-2", "gpt-realtime-1.5"


def starting(*others: str, **plan: object) -> Conversation:
    return Conversation(ready=False, model=FIRST, fallback_models=others, **plan)


def next_models(call: Conversation) -> list[str]:
    return [action.plan.model for action in call.ever(ConnectModel)]


@pytest.mark.parametrize(
    ("event", "code", "why"),
    [
        (ModelUnreachable("No route", None), "model_unreachable", "No route"),
        (ModelUnreachable("Not Found", 404), "model_unreachable", "status 404"),
        (errored("model_not_found", "No such model."), "model_model_not_found", "No such model."),
        (
            errored("invalid_value", "No such voice.", param="session.voice"),
            "model_rejected_configuration",
            "No such voice.",
        ),
        (ModelClosed(4000, "invalid_model"), "model_disconnected", "invalid_model"),
    ],
)
def test_the_next_model_follows(event, code, why):
    call = starting(SECOND, greeting="Hello.")
    if not isinstance(event, ModelUnreachable):
        call.receive(ModelReady())
    call.receive(event)
    [(_, detail)] = call.notes(EventKind.MODEL_FALLBACK)
    assert why in detail.pop("message")
    assert detail == {"model": FIRST, "code": code, "to": SECOND}
    assert next_models(call) == [SECOND]
    call.receive(ModelReady())
    assert call.told() == ["session.update", "response.create"]
    call.receive(ModelConfigured())
    assert [note.detail["model"] for note in call.actions if isinstance(note, Note)] == [SECOND]
    assert not call.ever(ReportError)


def test_each_model_follows_once_and_the_last_failure_ends_the_call():
    call = starting(SECOND, THIRD)
    for status in (503, 404, 400):
        call.receive(ModelUnreachable("No", status))
    assert next_models(call) == [SECOND, THIRD]
    (error,) = call.ever(ReportError)
    assert "status 400" in error.message
    assert call.ever(Finish)


@pytest.mark.parametrize(
    "event",
    [
        ModelUnreachable("Unauthorized", 401),
        errored("invalid_api_key", "Wrong key."),
        errored("insufficient_quota", "No money."),
    ],
)
def test_another_model_does_not_help_an_account_that_is_refused(event):
    call = starting(SECOND)
    if not isinstance(event, ModelUnreachable):
        call.receive(ModelReady())
    call.receive(event)
    assert not next_models(call)
    assert call.ever(Finish)


def test_all_models_share_the_time():
    call = starting(SECOND, THIRD)
    call.wait(STARTUP_S / 3 + 0.1)
    assert next_models(call) == [SECOND]
    call.wait(STARTUP_S / 3)
    assert next_models(call) == [SECOND, THIRD]
    assert not call.ever(Finish)
    call.wait(STARTUP_S / 3)
    assert call.ever(Finish)


def test_a_model_that_refuses_at_once_leaves_its_time_to_the_next():
    call = starting(SECOND)
    call.receive(ModelUnreachable("Not Found", 404))
    call.wait(STARTUP_S - 0.1)
    assert not call.ever(Finish)
    call.wait(0.1)
    assert call.ever(Finish)


def test_no_model_follows_one_that_has_started():
    call = Conversation(fallback_models=(SECOND,))
    call.receive(errored("model_not_found", "Gone."))
    assert not next_models(call)
    assert call.ever(Finish)


def test_no_model_follows_one_that_has_spoken():
    call = starting(SECOND)
    call.receive(ModelReady())
    call.say(20)
    call.receive(AgentAudioStarted("a1"))
    call.receive(ModelClosed(1006))
    assert next_models(call) == [FIRST]


def test_what_the_caller_typed_meanwhile_reaches_the_next_model():
    call = starting(SECOND, is_test=True)
    call.receive(ModelReady())
    call.receive(CallerTyped("Hello?"))
    call.receive(ModelClosed(1006))
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    assert "conversation.item.create" in call.told()
    assert "response.create" in call.told()


def test_what_the_first_model_began_to_hear_holds_up_nothing():
    call = starting(SECOND)
    call.receive(ModelReady())
    call.receive(SpeechStarted("u1"))
    call.receive(ModelClosed(1006))
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    call.wait(call.session._state.plan.inactivity_timeout_ms / 1000)
    (finish,) = call.ever(Finish)
    assert finish.reason == "inactivity"
    assert finish.ended_at == call.now
    assert not [each for each in call.took(Sent) if "commit" in each.event["type"]]
