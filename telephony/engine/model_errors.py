"""What the codes of a model's errors mean for a call.

The codes are OpenAI's. The codec of another provider translates its own to these.
"""

from __future__ import annotations

# After these, OpenAI serves nothing more on this socket, whatever we send.
FATAL_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "model_not_found",
        "session_expired",
        "response_input_buffer_full",
    }
)
# After these, another model of the same account would be refused as well.
ACCOUNT_CODES = FATAL_CODES - {
    "model_not_found",
    "session_expired",
    "response_input_buffer_full",
}
# After these, another session of the same model may well succeed.
REPLACED_CODES = frozenset(
    {"session_expired", "response_input_buffer_full", "server_error", "no_response"}
)
# Temporary: the same request may succeed a moment later.
PASSING_CODES = frozenset({"server_error", "rate_limit_exceeded", "slow_down"})
