"""The examples of many machines hang together: the compose file, the proxy, what Prometheus asks and Grafana shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import Metrics
from tests.docs.test_snippets import understood
from tests.serve.scripted import Scripted

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "serve"
METRIC = re.compile(r"\bantiphon_[a-z_]+")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def dashboard() -> dict:
    return json.loads((FOLDER / "grafana" / "antiphon.json").read_text())


def test_every_file_that_a_service_mounts_is_there(compose):
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (FOLDER / source).is_file() if source.startswith(".") else source in compose["volumes"]
            assert there, volume
    context = (FOLDER / compose["services"]["antiphon"]["build"]["context"]).resolve()
    assert (context / compose["services"]["antiphon"]["build"]["dockerfile"]).is_file()


def test_the_server_understands_its_command(compose):
    understood(compose["services"]["antiphon"]["command"])
    image = (FOLDER / "Dockerfile").read_text()
    understood(shlex.join(json.loads(re.search(r"^CMD (\[.*\])$", image, re.M)[1])))
    unit = (FOLDER / "antiphon.service").read_text()
    understood(re.search(r"^ExecStart=\S*/(antiphon .*)$", unit, re.M)[1])


def test_drain_ends_before_the_server_is_killed(compose):
    service = compose["services"]["antiphon"]
    drain = int(re.search(r"--drain (\d+)", service["command"])[1])
    assert drain < int(service["stop_grace_period"].removesuffix("s"))


def test_the_proxy_lets_through_what_the_server_takes():
    proxy = (FOLDER / "nginx.conf").read_text()
    most = int(re.search(r"client_max_body_size (\d+)m;", proxy)[1])
    assert most * 2**20 == ServeConfig().body_bytes
    assert "hash $binary_remote_addr" in proxy and "Upgrade $http_upgrade" in proxy and "proxy_buffering off" in proxy


def test_prometheus_asks_where_the_server_is(compose):
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert set(names["names"]) <= set(compose["services"]) and names["port"] == ServeConfig().port
    assert job["authorization"]["credentials_file"] in compose["services"]["prometheus"]["entrypoint"][2]
    (source,) = yaml.safe_load((FOLDER / "grafana" / "prometheus.yaml").read_text())["datasources"]
    assert re.fullmatch(r"http://(\w+):\d+", source["url"])[1] in compose["services"]
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "provisioning.yaml").read_text())["providers"]
    mounted = {volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]}
    assert f"{provider['options']['path']}/antiphon.json" in mounted


def exported() -> set[str]:
    """Names of all samples that a server's metrics can have, those that nothing was counted of yet as well."""
    names = set()
    for family in Metrics().registry.collect():
        own = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in own}
    return names


def test_every_metric_of_the_dashboard_is_the_servers_and_every_one_of_the_servers_is_on_it(dashboard):
    asked = {
        name for panel in dashboard["panels"] for target in panel["targets"] for name in METRIC.findall(target["expr"])
    }
    assert asked <= exported()
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in exported()} == {
        name.removesuffix("_bucket") for name in asked
    }


def test_every_label_that_the_dashboard_asks_for_is_given(dashboard):
    with TestClient(create_app(Scripted(), ServeConfig()), base_url="http://127.0.0.1") as client:
        metrics = client.app.state.served.metrics
        metrics.admitted.labels("realtime").inc()
        metrics.refused.labels("http").inc()
        metrics.ended.labels("closed").inc()
        client.get("/health")
        page = client.get("/metrics").text
    given = {"le", "instance", "job"} | set(re.findall(r"[{,](\w+)=\"", page))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([\w, ]+)\)", target["expr"])
            wanted = {name.strip() for names in grouped for name in names.split(",")}
            wanted |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert wanted <= given, target


def test_the_panels_do_not_overlap_and_read_the_source_that_is_there(dashboard):
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["datasource"]["uid"] == "prometheus" and panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
