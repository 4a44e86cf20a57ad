"""As in logs, to the second, with the zone: Django's own English says 11:15 p.m."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s T"
