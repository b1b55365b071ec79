"""deploy/compose.yaml agrees with the gateway's config, and with what it mounts."""

import re
import tomllib

import pytest
import yaml

from gateway.config.load import parse
from tests.deploy.files import DEPLOY, Document, config, document, stopping, variables

COMPOSE = document(DEPLOY / "compose.yaml")
SERVICES: dict[str, Document] = COMPOSE["services"]
GATEWAY = SERVICES["gateway"]


def test_what_runs() -> None:
    assert set(SERVICES) == {"gateway", "postgres", "redis", "prometheus", "grafana"}


def test_the_gateway_has_the_time_that_it_wants() -> None:
    """Docker kills it later than open turns have ended."""
    assert int(GATEWAY["stop_grace_period"].removesuffix("s")) >= stopping(config("config")) + 5


def test_it_hears_of_a_stop_while_it_starts() -> None:
    """As its container's second process: the kernel keeps from the first one what it does not
    listen for yet."""
    assert GATEWAY["init"] is True


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"gateway"}))
def test_it_is_asked_how_it_is(name: str) -> None:
    """Each service, at a port of its own container; the gateway's image does it by itself."""
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert not [word for word in check["test"] if "://" in word and "://127.0.0.1:" not in word]


def test_the_gateway_gets_its_environment() -> None:
    """Each variable that the config names, also where it is switched off, stands in compose.yaml
    and in .env.example."""
    text = (DEPLOY / "config" / "gateway.toml").read_text("utf-8")
    named = set(re.findall(r'env = "(\w+)"', text))
    example = re.findall(r"^(\w+)=$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    wanted = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))

    assert variables(config("config")) <= named == set(GATEWAY["environment"])
    assert set(example) == wanted >= named


def test_what_the_config_has_switched_off() -> None:
    """Every "#" in front of configuration can be removed."""
    path = DEPLOY / "config" / "gateway.toml"
    text = re.sub(r"^#(?=[\[a-z])", "", path.read_text("utf-8"), flags=re.MULTILINE)

    assert set(parse(tomllib.loads(text), path).upstreams) == {"echo", "openai"}


def test_only_this_machine_reaches_it() -> None:
    """The admin listener is published nowhere."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert GATEWAY["ports"] == ["127.0.0.1:8080:8080"]


def test_its_database() -> None:
    """The gateway finds it by its name, as the user that it has."""
    database = SERVICES["postgres"]["environment"]

    assert config("config").store.url == (
        f"postgresql://{database['POSTGRES_USER']}@postgres:5432/{database['POSTGRES_DB']}"
    )
    assert database["POSTGRES_PASSWORD"] == GATEWAY["environment"]["OC_GATEWAY_DB_PASSWORD"]


def test_what_it_mounts_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (DEPLOY / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
            assert known, volume


def test_prometheus_finds_the_gateways_and_the_rules() -> None:
    """By their service's name, at the admin port, where /metrics is Prometheus' own default."""
    prometheus = document(DEPLOY / "prometheus.yml")
    (found,) = prometheus["scrape_configs"][0]["dns_sd_configs"]
    mounts = [volume.split(":") for volume in SERVICES["prometheus"]["volumes"]]

    assert (found["names"], found["port"]) == (["gateway"], config("config").admin.port)
    assert prometheus["rule_files"] == ["/etc/prometheus/rules/*.yml"]
    assert ["./prometheus", "/etc/prometheus/rules", "ro"] in mounts


def test_prometheus_reads_nothing_but_rules() -> None:
    """It does not start with another file among them: their tests have a folder of their own."""
    for path in (DEPLOY / "prometheus").glob("*.yml"):
        assert set(yaml.safe_load(path.read_text("utf-8"))) == {"groups"}, path.name


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    """Both from what is mounted."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = document(provisioning / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = document(provisioning / "dashboards" / "files.yml")["providers"]
    grafana = SERVICES["grafana"]

    assert source["url"] == "http://prometheus:9090"
    assert "./grafana:/srv/grafana:ro" in grafana["volumes"]
    assert provider["options"]["path"] == "/srv/grafana"
    assert grafana["environment"]["GF_PATHS_PROVISIONING"] == "/srv/grafana/provisioning"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_of_a_version(name: str) -> None:
    """Tomorrow it starts what it starts today."""
    image = SERVICES[name]["image"]

    assert image == "oc-gateway" or re.search(r":v?\d+", image)
