"""The alerts, their runbooks and the dashboard. Prometheus's programs check them if installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml
from django.conf import settings
from django.utils.text import slugify

from operations.metrics import certificates, figures, meters

FOLDER = settings.BASE_DIR / "deploy" / "monitoring"
GUIDE = settings.BASE_DIR / "docs" / "monitoring.md"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "switchhook.json"
# What the exporter adds (``operations.metrics.collecting``).
OF_THE_EXPORTER = {
    "switchhook_build_info",
    "switchhook_process_cpu_seconds_total",
    "switchhook_process_open_files",
    "switchhook_process_open_files_limit",
    "switchhook_process_resident_memory_bytes",
}


def rules():
    groups = yaml.safe_load((FOLDER / "rules" / "switchhook.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known_series():
    """Return the names of all series, with those that a histogram has."""
    figures.READ_AT.set(0)
    certificates.look()
    names = set(OF_THE_EXPORTER)
    for metric in meters.REGISTRY.collect():
        if metric.type == "histogram":
            names |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            names.add(f"{metric.name}_total" if metric.type == "counter" else metric.name)
    return names


def test_each_alert_has_its_runbook_and_each_runbook_its_alert():
    alerts = [rule["alert"] for rule in rules()]
    section = GUIDE.read_text().partition("\n## Alerts\n")[2]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == alerts
    for rule in rules():
        url = f"{{{{ $externalLabels.switchhook }}}}/docs/monitoring#{slugify(rule['alert'])}"
        assert rule["annotations"]["runbook_url"] == url


def test_each_runbook_says_how_urgent_it_is():
    for rule in rules():
        severity = rule["labels"]["severity"]
        assert f"### {rule['alert']}\n\n*{severity.capitalize()}.* " in GUIDE.read_text()


def test_each_alert_has_a_unit_test():
    tests = yaml.safe_load((FOLDER / "tests" / "switchhook.yml").read_text())["tests"]
    named = {test["name"] for test in tests}
    assert named >= {rule["alert"] for rule in rules()}


def test_alerts_are_told_to_somebody_and_only_known_ones_are_inhibited():
    config = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    alerts = {rule["alert"] for rule in rules()}
    matchers = [
        each
        for rule in config["inhibit_rules"]
        for each in (*rule["source_matchers"], *rule["target_matchers"])
    ]
    for each in matchers:
        pattern = each.partition("=")[2].lstrip("~").strip().strip('"')
        prefix, _, names = pattern.rstrip(")").partition("(")
        named = {f"{prefix}{name}" for name in names.split("|")} if names else {pattern}
        assert named <= alerts


@pytest.mark.parametrize(
    "path", [FOLDER / "rules" / "switchhook.yml", DASHBOARD, GUIDE], ids=lambda path: path.name
)
def test_no_query_has_a_series_that_does_not_exist(path):
    found = set(re.findall(r"switchhook_[a-z_]+", path.read_text())) - {"switchhook_"}
    families = {name.removesuffix("_bucket") for name in known_series()}
    assert found
    assert found <= known_series() | families


def test_the_dashboards_queries_are_understood_and_its_panels_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & cells
        assert at["x"] + at["w"] <= 24
        cells |= own
    assert len({panel["id"] for panel in panels}) == len(panels)


def program(name):
    return pytest.param(
        name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed")
    )


def run(*command):
    ended = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("promtool", [program("promtool")])
class TestPrometheus:
    def test_the_alerts_unit_tests(self, promtool):
        run(promtool, "test", "rules", "tests/switchhook.yml")

    def test_the_configuration(self, promtool):
        run(promtool, "check", "config", "--syntax-only", "prometheus.yml")
        run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules/switchhook.yml")

    def test_the_dashboards_queries(self, promtool, tmp_path):
        queries = [
            target["expr"]
            for panel in json.loads(DASHBOARD.read_text())["panels"]
            for target in panel.get("targets", ())
        ]
        assert len(queries) > 30
        rules = [
            {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "1m")}
            for number, query in enumerate(queries)
        ]
        path = tmp_path / "queries.yml"
        path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
        run(promtool, "check", "rules", str(path))


@pytest.mark.parametrize("amtool", [program("amtool")])
class TestAlertmanager:
    def test_the_configuration(self, amtool):
        run(amtool, "check-config", "alertmanager.yml")

    @pytest.mark.parametrize(
        ("labels", "receiver"),
        [
            (["alertname=SwitchhookNoEngine", "severity=critical"], "page"),
            (["alertname=SwitchhookCallsFail", "severity=warning"], "ticket"),
            (["alertname=SwitchhookWatchdog", "severity=none"], "watchdog"),
        ],
    )
    def test_where_alerts_go(self, amtool, labels, receiver):
        expected = (f"--verify.receivers={receiver}", "--config.file=alertmanager.yml")
        run(amtool, "config", "routes", "test", *expected, *labels)
