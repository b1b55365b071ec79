"""The manifests agree with each other, with the gateway's config, and with the gateway."""

from pathlib import Path

from gateway import __version__
from gateway.admin.routes import build_admin
from gateway.cli.main import build_parser
from gateway.config.secrets import places
from gateway.observe.exposition import exposition
from gateway.observe.metrics import Metrics
from gateway.reload.reloader import Outcome
from tests.deploy.files import DEPLOY, Document, config, document, documents, stopping

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = document(FOLDER / "kustomization.yaml")
OBJECTS = [one for name in KUSTOMIZATION["resources"] for one in documents(FOLDER / name)]
CONFIG = config("kubernetes")


def _object(kind: str) -> Document:
    (only,) = (one for one in OBJECTS if one["kind"] == kind)
    return only


DEPLOYMENT = _object("Deployment")["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = DEPLOYMENT["template"]["metadata"]["labels"]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}


def _paths() -> set[str]:
    async def fault() -> str | None:
        return None

    async def reload() -> Outcome:
        return Outcome()

    app = build_admin(Metrics(), fault, reload)
    return {resource.canonical for resource in app.router.resources()}


def test_what_there_is() -> None:
    """Every manifest is in the kustomization, and nothing else: the Secret is not ours to write."""
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}

    assert set(KUSTOMIZATION["resources"]) == files
    assert not [one for one in OBJECTS if one["kind"] == "Secret"]


def test_a_pod_has_the_time_that_it_wants() -> None:
    """It is killed later than open turns have ended."""
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert POD["terminationGracePeriodSeconds"] >= before + stopping(CONFIG) + 5


def test_it_is_asked_where_it_answers() -> None:
    """Probes, scrapes and clients go to ports and paths that are there."""
    probes = [CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    annotations = DEPLOYMENT["template"]["metadata"]["annotations"]
    (monitored,) = document(FOLDER / "monitoring/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    (service,) = _object("Service")["spec"]["ports"]

    assert {"http": CONFIG.server.port, "admin": CONFIG.admin.port} == PORTS
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in probes} == {"admin"}
    assert {*(probe["path"] for probe in probes), monitored["path"]} <= _paths()
    assert annotations["prometheus.io/port"] == str(CONFIG.admin.port)
    assert annotations["prometheus.io/path"] == monitored["path"]
    assert (monitored["port"], service["targetPort"]) == ("admin", "http")


def test_all_are_of_the_same_pods() -> None:
    """Nothing selects pods that are not the gateway's."""
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        _object("Service")["spec"]["selector"],
        _object("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        _object("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        document(FOLDER / "monitoring/podmonitor.yaml")["spec"]["selector"]["matchLabels"],
    ]

    assert all(selector == LABELS for selector in selectors)


def test_its_image() -> None:
    """The release that this is, run with the config's own addresses."""
    (image,) = KUSTOMIZATION["images"]
    args = build_parser().parse_args(CONTAINER["args"])

    assert (image["name"], image["newTag"]) == (CONTAINER["image"], __version__)
    assert (args.host, args.port) == (None, None)


def test_a_changed_config_reaches_the_pods_that_run() -> None:
    """As a folder under a name that stays, where the image looks for it."""
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    path = Path(mounts["config"]["mountPath"]) / generated["files"][0]

    assert generated["options"]["disableNameSuffixHash"] is True
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert f"OC_GATEWAY_CONFIG={path}\n" in (DEPLOY / "Dockerfile").read_text()
    assert not [mount for mount in mounts.values() if "subPath" in mount]


def test_secrets_are_mounted() -> None:
    """Each that the config names is a file in the Secret's folder."""
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    files = [secret.file for _, secret in places(CONFIG)]

    assert files
    assert {Path(file).parent.as_posix() for file in files if file} == {mounts["secrets"]}
    assert all(files)


def test_it_is_allowed_nothing() -> None:
    """As the image's user, without capabilities or a token, on a file system that it cannot
    write."""
    own = CONTAINER["securityContext"]

    assert f"USER {POD['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert POD["automountServiceAccountToken"] is False


def test_it_scales_by_a_metric_that_there_is() -> None:
    """The gateway has it under that name, and the adapter serves it under the same."""
    (streams,) = (m["pods"]["metric"]["name"] for m in _scaling()["metrics"] if "pods" in m)
    (rule,) = document(FOLDER / "monitoring/prometheus-adapter.yaml")["rules"]["custom"]

    assert f"# TYPE {streams} gauge" in exposition(Metrics().registry).body.decode()
    assert rule["name"]["as"] == streams
    assert rule["seriesQuery"].startswith(streams + "{")


def test_it_scales_the_deployment() -> None:
    """Which does not say itself how many there are, and never goes below what is allowed."""
    target = _scaling()["scaleTargetRef"]

    assert (target["kind"], target["name"]) == ("Deployment", "oc-gateway")
    assert "replicas" not in DEPLOYMENT
    assert _scaling()["minReplicas"] >= 2


def _scaling() -> Document:
    spec: Document = _object("HorizontalPodAutoscaler")["spec"]
    return spec


def test_it_may_be_spoken_to_at_its_ports() -> None:
    """Clients at one port, Prometheus at the other."""
    rules = _object("NetworkPolicy")["spec"]["ingress"]

    assert [port["port"] for rule in rules for port in rule["ports"]] == ["http", "admin"]
