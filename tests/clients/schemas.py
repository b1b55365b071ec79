"""What the owners of a format say of a file: the API of Kubernetes, or Envoy's own definitions.

Arguments: `kubernetes` or `envoy`, and files. Silent if all are right, else it ends with 1.
"""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import yaml

# The oldest release that the manifests are for (a hook that sleeps), and the newest in the package.
_RELEASES = ("1.30", "1.37")

# Whatever an envoy.yaml of ours names by `@type` has to be known before it is read.
_ENVOY = (
    "config.bootstrap.v3.bootstrap",
    "extensions.filters.http.router.v3.router",
    "extensions.filters.network.http_connection_manager.v3.http_connection_manager",
    "extensions.resource_monitors.downstream_connections.v3.downstream_connections",
    "extensions.retry.host.previous_hosts.v3.previous_hosts",
    "extensions.transport_sockets.tls.v3.tls",
    "extensions.upstreams.http.v3.http_protocol_options",
)


def kubernetes(path: Path) -> None:
    validation = import_module("kubernetes_validate")
    for one in yaml.safe_load_all(path.read_text("utf-8")):
        for release in _RELEASES:
            validation.validate(one, release, strict=True)


def envoy(path: Path) -> None:
    modules = [import_module(f"envoy.{name}_pb2") for name in _ENVOY]
    form = import_module("google.protobuf.json_format")
    form.ParseDict(yaml.safe_load(path.read_text("utf-8")), modules[0].Bootstrap())


OWNERS: dict[str, Callable[[Path], None]] = {"kubernetes": kubernetes, "envoy": envoy}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parent / ".python" / "schemas"))
    for name in sys.argv[2:]:
        OWNERS[sys.argv[1]](Path(name))
