"""The fixtures of the dashboard's tests that operators need too."""

from dashboard.tests.conftest import alice_web, later, operator_of_running

__all__ = ["alice_web", "later", "operator_of_running"]
