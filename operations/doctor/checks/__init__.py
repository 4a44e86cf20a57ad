"""Every check of the doctor, in the order of the report."""

from __future__ import annotations

from operations.doctor.checks.addresses import ADDRESS, CERTIFICATE, PROXY, SOCKET, VOICE, WEB
from operations.doctor.checks.clock import CLOCK
from operations.doctor.checks.database import (
    CONNECTIONS,
    DATABASE,
    MIGRATIONS,
    POOLER,
    REPLICA_CHECK,
    SEALED,
)
from operations.doctor.checks.environment import DJANGO, LISTENING, NAMES, SETTINGS
from operations.doctor.checks.machine import FILES, SPACE
from operations.doctor.checks.payments import STRIPE
from operations.doctor.checks.processes import PROCESSES, VERSIONS
from operations.doctor.checks.services import HOSTS, MAIL

CHECKS = (
    SETTINGS,
    NAMES,
    DJANGO,
    LISTENING,
    DATABASE,
    MIGRATIONS,
    SEALED,
    POOLER,
    REPLICA_CHECK,
    CONNECTIONS,
    PROCESSES,
    VERSIONS,
    ADDRESS,
    CERTIFICATE,
    WEB,
    VOICE,
    SOCKET,
    PROXY,
    STRIPE,
    MAIL,
    HOSTS,
    CLOCK,
    FILES,
    SPACE,
)
