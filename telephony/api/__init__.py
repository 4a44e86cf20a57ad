"""Telephony's part of the REST API: one module per resource."""
