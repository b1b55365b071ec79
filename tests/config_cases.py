"""A valid config, and what goes wrong with one change to it."""

# Every table has an entry here, so that a change to this one is what each case is about.
VALID = """
[limits.tiers.standard]
requests = "100/10s"

[upstreams.llm]
kind = "openai"
base_url = "https://llm.example/v1"
credential = { env = "LLM_KEY" }

[upstreams.bookbag]
kind = "bookbag"
base_url = "https://app.bookbag.ai"

[upstreams.echo]
kind = "echo"

[upstreams.recorded]
kind = "replay"
file = "recorded.jsonl"

[[agents]]
id = 1
workspace = "acme"
name = "Support"
aliases = ["support"]
targets = [{ upstream = "llm", model = "m", params = { temperature = 0.5 } }]
public = { origins = ["https://www.acme.com"], tier = "standard" }
tools = [{ name = "order_status" }]

[[agents]]
id = 2
workspace = "acme"
name = "Sales"
targets = [{ upstream = "bookbag", agent = 7 }, { upstream = "echo" }]

[[agents]]
id = 3
workspace = "globex"
name = "Support"
targets = [{ upstream = "recorded" }]

[[keys]]
id = "web"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
workspace = "acme"
agents = [1, 2]
tier = "standard"

[[keys]]
id = "web"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000002"
workspace = "acme"
tier = "standard"

[[auth.signing_keys]]
id = "shared"
algorithm = "HS256"
secret = { env = "SHARED" }
workspaces = ["acme"]

[[auth.signing_keys]]
id = "site"
algorithm = "EdDSA"
public_key = { file = "site.pem" }
workspaces = ["acme"]

[[auth.jwks]]
url = "https://id.acme.com/jwks.json"
algorithms = ["RS256"]
workspaces = ["acme"]
"""

Path = tuple[str | int, ...]

SECRET = '{ env = "NAME" } or { file = "path" }: a secret never stands in this file'
ADDRESS = (
    'an address such as "https://api.example.com/v1": http or https, with neither user nor query '
    "nor fragment"
)
STORE = (
    'store.url: expected "memory://", "sqlite:///file.db" (a fourth slash begins an absolute path)'
    ' or "postgresql://user@host:5432/database", without a password: `password` is for that'
)
ORIGIN = (
    'an origin such as "https://www.acme.com" or "http://localhost:3000": scheme, host and port, '
    'without a path; or "*" for any'
)
CREDENTIAL = "as a name, expected no credential: the upstream's `credential` is for that"
OWN_HEADER = (
    "as a name, expected no header that the gateway sets itself or that is of one connection"
)
OWN_FIELD = "as a name, expected no field that the gateway sets itself (model, messages, stream)"
ONE_SOURCE = "expected exactly one of `url` and `file`"

AGENT = ' (agent 1 "Support")'
SALES = ' (agent 2 "Sales")'
PASSED = 'with conversations = "passthrough"'
NOT_PASSED = (
    f'expected an upstream of kind "bookbag" or "chatbase" {PASSED}: clients see its own ids'
)
SHARED = (
    f"another agent of this file leads to it as well: {PASSED} it would show the conversations of"
    " both to either"
)

NETWORK = 'a network such as "10.0.0.0/8" or "fd00::/8", or an address'
NOT_EVERYBODY = "a network that is not everybody: whoever is in it may say any address"

CLASH = "give one of them another prefix"
PREFIX = 'expected a path such as "/chat", without a slash at its end; or "" for none'

PASSED_AGENT = ' (agent 3 "Passed")'
PASSING: dict[str, object] = {
    "id": 3,
    "workspace": "globex",
    "name": "Passed",
    "conversations": "passthrough",
    "targets": [{"upstream": "bookbag", "agent": 8}],
}
POSTGRES: dict[str, object] = {"url": "postgres://oc@db.example/oc"}

CASES: list[tuple[Path, object, list[str]]] = [
    # Unknown keys.
    (("servr",), {}, ["servr: unknown key; did you mean server?"]),
    (("server", "prot"), 1, ["server.prot: unknown key; did you mean port?"]),
    (("admin", "zzz"), 1, ["admin.zzz: unknown key; there are host, port, token"]),
    (
        ("upstreams", "llm", "api_key"),
        "s3cret",
        ["upstreams.llm.api_key: unknown key; did you mean credential?"],
    ),
    # Wrong types and values.
    (("server", "port"), "80", ['server.port: expected a whole number, found "80"']),
    (("server", "port"), True, ["server.port: expected a whole number, found true"]),
    (("server", "port"), 70000, ["server.port: expected a number up to 65535, found 70000"]),
    (("server", "host"), "", ['server.host: expected a text that is not empty, found ""']),
    (("server",), 1, ["server: expected a table, found 1"]),
    (
        ("server", "tls"),
        {"certificate": "site.pem", "min_version": "1.1"},
        [
            'server.tls.min_version: expected "1.2" or "1.3", found "1.1"',
            "server.tls.key: is missing, expected text",
        ],
    ),
    (
        ("server", "trusted_proxies"),
        ["10.0.0.1/8", "lb.internal", "::/0", 7],
        [
            f'server.trusted_proxies[0]: expected {NETWORK}, found "10.0.0.1/8"',
            f'server.trusted_proxies[1]: expected {NETWORK}, found "lb.internal"',
            f'server.trusted_proxies[2]: expected {NOT_EVERYBODY}, found "::/0"',
            f"server.trusted_proxies[3]: expected {NETWORK}, found 7",
        ],
    ),
    (
        ("server", "client_header"),
        "X-Real-IP",
        ['server.client_header: expected "X-Forwarded-For" or "Forwarded", found "X-Real-IP"'],
    ),
    (("upstreams",), 1, ["upstreams: expected a table, found 1"]),
    (("upstreams", "llm", "headers"), [], ["upstreams.llm.headers: expected a table"]),
    (("agents",), {}, ["agents: expected a list, found an empty table"]),
    (("agents",), [], ["agents: expected at least one entry, found an empty list"]),
    (("agents", 0, "id"), 0, ['agents[0].id (agent "Support"): expected a number from 1, found 0']),
    (
        ("agents", 0, "id"),
        16**5000,
        [
            'agents[0].id (agent "Support"): expected a number up to 9007199254740991,'
            " found a number out of range"
        ],
    ),
    (
        ("agents", 0, "workspace"),
        None,
        [f"agents[0].workspace{AGENT}: is missing, expected text"],
    ),
    (
        ("agents", 0, "name"),
        "a\nb",
        [
            'agents[0].name (agent 1 "a\\nb"): expected a text of 1 to 200 characters on one line,'
            ' found "a\\nb"'
        ],
    ),
    (
        ("agents", 1, "targets", 0, "agent"),
        1.5,
        [
            'agents[1].targets[0].agent (agent 2 "Sales"): expected text or a whole number,'
            " found 1.5"
        ],
    ),
    (
        ("limits", "tiers", "standard", "requests"),
        "many",
        [
            'limits.tiers.standard.requests: expected a rate such as "100/10s": so many requests'
            ' in so much time, found "many"'
        ],
    ),
    (
        ("limits", "tiers", "standard", "requests"),
        None,
        ['limits.tiers.standard.requests: is missing, expected text such as "100/10s"'],
    ),
    (
        ("limits", "tiers", "a b"),
        {"requests": "1/1s"},
        [
            'limits.tiers."a b": as a name, expected 1 to 64 letters, digits, dots, hyphens and'
            " underscores, the first a letter or digit"
        ],
    ),
    (
        ("upstreams", "llm", "timeouts"),
        {"connect": 2},
        [
            'upstreams.llm.timeouts.connect: expected a duration such as "500ms", "30s", "15m",'
            ' "12h" or "90d", above zero, found 2'
        ],
    ),
    (
        ("upstreams", "llm", "max_event"),
        "1MB",
        [
            'upstreams.llm.max_event: expected a size such as "64KiB", "1MiB" or "2GiB", above'
            ' zero, found "1MB"'
        ],
    ),
    (
        ("upstreams", "llm", "kind"),
        "opnai",
        [
            'upstreams.llm.kind: expected "openai", "bookbag", "chatbase", "sonzai", "agentsgt",'
            ' "echo" or "replay", found "opnai"'
        ],
    ),
    (
        ("upstreams", "llm", "kind"),
        None,
        [
            'upstreams.llm.kind: is missing, expected "openai" or "bookbag" or "chatbase" or'
            ' "sonzai" or "agentsgt" or "echo" or "replay"'
        ],
    ),
    (
        ("keys", 0, "expires"),
        "2027-01-31",
        [
            "keys[0].expires (key web): expected a date and time with an offset, such as"
            ' "2027-01-31T00:00:00Z", found "2027-01-31"'
        ],
    ),
    (
        ("keys", 0, "agents"),
        [],
        ["keys[0].agents (key web): expected at least one entry, found an empty list"],
    ),
    # What is not built yet.
    (
        ("server", "workers"),
        0,
        [
            'server.workers: expected a whole number from 1 to 256, or "auto" for one on each core,'
            " found 0"
        ],
    ),
    # What several workers cannot share.
    (
        ("server",),
        {"workers": "many"},
        [
            'server.workers: expected a whole number from 1 to 256, or "auto" for one on each core,'
            ' found "many"'
        ],
    ),
    (
        ("server",),
        {"workers": 2, "resume": {"on_request": True}},
        [
            "server.resume.on_request: a client may come back to another process than its stream is"
            " in, and server.workers = 2: leave it out or set it to false, or set server.workers ="
            " 1"
        ],
    ),
    (
        ("limits", "backend"),
        "redis://cache",
        [
            'limits.backend: expected "local": other backends are not built yet,'
            ' found "redis://cache"'
        ],
    ),
    (
        ("limits", "tiers", "standard", "tokens"),
        "200000/1m",
        ["limits.tiers.standard.tokens: not built yet: leave it out"],
    ),
    # References that lead nowhere.
    (
        ("agents", 0, "targets", 0, "upstream"),
        "lm",
        [
            f"agents[0].targets[0].upstream{AGENT}: expected an upstream of this file:"
            ' "llm" or "bookbag" or "echo" or "recorded", found "lm"'
        ],
    ),
    (
        ("agents", 0, "public", "tier"),
        "gold",
        [f'agents[0].public.tier{AGENT}: expected a tier of this file: "standard", found "gold"'],
    ),
    (
        ("keys", 0, "tier"),
        "gold",
        ['keys[0].tier (key web): expected a tier of this file: "standard", found "gold"'],
    ),
    (
        ("keys", 0, "agents"),
        [1, 3, 4],
        [
            f'keys[0].agents[{i}] (key web): expected the id of an agent of workspace "acme",'
            f" found {found}"
            for i, found in ((1, 3), (2, 4))
        ],
    ),
    # What must be unique.
    (
        ("agents", 1, "id"),
        1,
        [
            'agents[1].id (agent 1 "Sales"): 1 is the id of another agent already',
            'keys[0].agents[1] (key web): expected the id of an agent of workspace "acme", found 2',
        ],
    ),
    (
        ("agents", 1, "name"),
        "support",
        [
            'agents[1].name (agent 2 "support"): "support" names agent 1 of the same workspace'
            " already"
        ],
    ),
    (
        ("agents", 0, "aliases"),
        ["2"],
        [f'agents[0].aliases[0]{AGENT}: "2" names agent 2 of the same workspace already'],
    ),
    (
        ("agents", 0, "tools"),
        [{"name": "a"}, {"name": "a"}],
        [f'agents[0].tools[1].name{AGENT}: "a" is the name of another tool of this agent already'],
    ),
    (
        ("keys", 1, "hash"),
        "sha256:" + "0" * 63 + "1",
        ["keys[1].hash (key web): the hash of another entry already: one key, one entry"],
    ),
    (
        ("auth", "signing_keys", 1, "id"),
        "shared",
        ['auth.signing_keys[1].id: "shared" is the id of another signing key already'],
    ),
    # Secrets in the file.
    (
        ("upstreams", "llm", "credential"),
        "s3cret",
        [f"upstreams.llm.credential: expected {SECRET}"],
    ),
    (
        ("agents", 0, "identity_secret"),
        "s3cret",
        [f"agents[0].identity_secret{AGENT}: expected {SECRET}"],
    ),
    (
        ("upstreams", "llm", "credential"),
        {"env": "A", "file": "b"},
        ['upstreams.llm.credential: expected exactly one of { env = "NAME" } or { file = "path" }'],
    ),
    (
        ("upstreams", "llm", "credential"),
        {"env": "s3cret-value"},
        [
            "upstreams.llm.credential.env: expected the name of an environment variable: letters,"
            " digits and underscores"
        ],
    ),
    (
        ("keys", 0, "hash"),
        "oc_live_s3cret",
        [
            'keys[0].hash (key web): expected "sha256:" and 64 lower-case hex digits, as'
            " `oc-gateway keys create` prints them"
        ],
    ),
    (
        ("upstreams", "llm", "headers"),
        {"X-Api-Key": "s3cret"},
        [f"upstreams.llm.headers.X-Api-Key: {CREDENTIAL}"],
    ),
    (
        ("upstreams", "llm", "headers"),
        {"X-Custom": "Bearer s3cret"},
        [
            "upstreams.llm.headers.X-Custom: expected no credential: the upstream's `credential`"
            " is for that"
        ],
    ),
    # Headers and fields that are the gateway's own.
    (
        ("upstreams", "llm", "headers"),
        {"Connection": "close"},
        [f"upstreams.llm.headers.Connection: {OWN_HEADER}"],
    ),
    (
        ("upstreams", "llm", "headers"),
        {"X-A": "a\r\nHost: b"},
        [
            "upstreams.llm.headers.X-A: expected one line of printable ASCII, without space"
            " around it"
        ],
    ),
    (
        ("agents", 0, "targets", 0, "params"),
        {"model": "other", "stream": False},
        [
            f"agents[0].targets[0].params.model{AGENT}: {OWN_FIELD}",
            f"agents[0].targets[0].params.stream{AGENT}: {OWN_FIELD}",
        ],
    ),
    (
        ("agents", 0, "targets", 0, "params"),
        {"seed": 2**70},
        [
            f"agents[0].targets[0].params{AGENT}: expected what JSON can say, with numbers of at"
            " most 64 bits"
        ],
    ),
    # Credentials in a header of their own.
    (
        ("upstreams", "llm", "credential_header"),
        "api key",
        [
            "upstreams.llm.credential_header: expected a header's name: letters, digits and"
            ' hyphens, found "api key"'
        ],
    ),
    (
        ("upstreams", "llm", "credential_header"),
        "Host",
        [
            "upstreams.llm.credential_header: expected no header that the gateway sets itself or"
            ' that is of one connection, found "Host"'
        ],
    ),
    (
        ("upstreams", "bookbag", "credential_header"),
        "api-key",
        [
            "upstreams.bookbag.credential_header: has no meaning without `credential`, which is"
            " sent in it"
        ],
    ),
    (
        ("upstreams", "echo"),
        {"kind": "echo", "credential": {"env": "A"}, "credential_header": "api-key"},
        [
            f'upstreams.echo.{name}: has no meaning for kind "echo", only for openai, bookbag,'
            " chatbase, sonzai, agentsgt: leave it out"
            for name in ("credential", "credential_header")
        ],
    ),
    # Where the families' paths begin.
    *(
        (
            ("server", "mounts"),
            {"sonzai": prefix},
            [f'server.mounts.sonzai: {PREFIX}, found "{prefix}"'],
        )
        for prefix in ("/", "chat", "/chat/", "/a//b", "/a b", "/{agent}", "/..", "/a/../b")
    ),
    (
        ("server", "mounts"),
        {"bookbg": "/bb"},
        ["server.mounts.bookbg: unknown key; did you mean bookbag?"],
    ),
    (
        ("server", "mounts"),
        {"chatbase": ""},
        [
            "server.mounts.chatbase: bookbag and chatbase would both answer at"
            f' /api/v2/agents/{{agent}}/chat: {CLASH}, found ""'
        ],
    ),
    (
        ("server", "mounts"),
        {"bookbag": "/chatbase"},
        [
            "server.mounts.bookbag: bookbag and chatbase would both answer at"
            f' /chatbase/api/v2/agents/{{agent}}/chat: {CLASH}, found "/chatbase"'
        ],
    ),
    # Addresses.
    (("upstreams", "llm", "base_url"), "llm:8000", [f"upstreams.llm.base_url: expected {ADDRESS}"]),
    (
        ("upstreams", "llm", "base_url"),
        "https://user:s3cret@llm.example",
        [f"upstreams.llm.base_url: expected {ADDRESS}"],
    ),
    (
        ("upstreams", "bookbag", "base_url"),
        "https://app.bookbag.ai/api/v2/",
        [
            "upstreams.bookbag.base_url: expected the address without /api: the gateway adds it",
        ],
    ),
    (
        ("agents", 0, "public", "origins"),
        ["*", "https://acme.com/shop"],
        [f'agents[0].public.origins[1]{AGENT}: expected {ORIGIN}, found "https://acme.com/shop"'],
    ),
    (
        ("auth", "jwks", 0, "url"),
        "http://id.acme.com/jwks.json",
        [
            "auth.jwks[0].url: expected an https address without user; http only to this machine"
            " (127.0.0.1)"
        ],
    ),
    # The store.
    *(
        (("store", "url"), url, [STORE])
        for url in (
            "sqlite://oc-gateway.db",
            "sqlite:///",
            "sqlite:///folder/",
            "sqlite:///a.db?mode=ro",
            "oc-gateway.db",
            "mysql://db.example/oc",
            "memory://x",
            "redis://cache",
            "postgresql://db.example",
            "postgresql://db.example:port/oc",
            "postgresql://oc:s3cret@db.example/oc",
            "postgresql://oc@db.example/oc?password=s3cret",
            "postgresql://oc@db.example/oc#s3cret",
        )
    ),
    (("store",), POSTGRES | {"password": "s3cret"}, [f"store.password: expected {SECRET}"]),
    (
        ("store",),
        POSTGRES | {"max_connections": 0, "max_size": "1GiB"},
        [
            "store.max_connections: expected a number over 0, found 0",
            "store.max_size: has no meaning for postgres, only for memory: leave it out",
        ],
    ),
    (
        ("store", "password"),
        {"env": "PASSWORD"},
        ["store.password: has no meaning for sqlite, only for postgresql: leave it out"],
    ),
    (
        ("store",),
        {"url": "s3cret", "max_size": "1GiB"},
        [STORE],
    ),
    (
        ("store", "ttl"),
        "forever",
        [
            'store.ttl: expected a duration such as "500ms", "30s", "15m", "12h" or "90d", above'
            ' zero, found "forever"'
        ],
    ),
    (("store", "keep_partial"), 1, ["store.keep_partial: expected true or false, found 1"]),
    (
        ("store", "max_messages"),
        200,
        ["store.max_messages: unknown key; did you mean max_size?"],
    ),
    (
        ("agents", 0, "history"),
        {"max_messages": 0},
        [f"agents[0].history.max_messages{AGENT}: expected a number over 0, found 0"],
    ),
    # Conversations that the upstream keeps.
    (
        ("agents", 1, "conversations"),
        "upstream",
        [f'agents[1].conversations{SALES}: expected "stored" or "passthrough", found "upstream"'],
    ),
    (
        ("agents", 1, "conversations"),
        "passthrough",
        [
            f"agents[1].targets{SALES}: expected exactly one {PASSED}: another one does not know"
            " the conversation, found 2",
            f'agents[1].targets[1].upstream{SALES}: {NOT_PASSED}, found "echo"',
        ],
    ),
    (
        ("agents", 0, "conversations"),
        "passthrough",
        [
            f'agents[0].targets[0].upstream{AGENT}: {NOT_PASSED}, found "llm"',
            f"agents[0].public{AGENT}: cannot be {PASSED}: nothing tells one visitor's conversation"
            " from another's, so leave it out",
            f"agents[0].tools{AGENT}: has no meaning {PASSED}: leave it out",
        ],
    ),
    (
        ("agents", 2, "conversations"),
        "passthrough",
        [f'agents[2].targets[0].upstream (agent 3 "Support"): {NOT_PASSED}, found "recorded"'],
    ),
    (
        ("agents", 2),
        PASSING | {"targets": [{"upstream": "bookbag", "agent": "7"}]},
        [f"agents[2].targets[0].agent{PASSED_AGENT}: {SHARED}"],
    ),
    (
        ("agents", 2),
        PASSING | {"identity_secret": {"env": "A"}, "instructions": "", "history": {}},
        [
            f"agents[2].identity_secret{PASSED_AGENT}: cannot be {PASSED}: nothing tells one"
            " visitor's conversation from another's, so leave it out",
            f"agents[2].instructions{PASSED_AGENT}: has no meaning {PASSED}: leave it out",
            f"agents[2].history{PASSED_AGENT}: has no meaning {PASSED}: leave it out",
        ],
    ),
    # What does not fit together.
    (
        ("upstreams", "llm", "base_url"),
        None,
        ['upstreams.llm.base_url: is missing: an upstream of kind "openai" needs it'],
    ),
    (
        ("upstreams", "bookbag", "base_url"),
        None,
        ['upstreams.bookbag.base_url: is missing: an upstream of kind "bookbag" needs it'],
    ),
    (
        ("upstreams", "recorded", "file"),
        None,
        ['upstreams.recorded.file: is missing: an upstream of kind "replay" needs it'],
    ),
    (
        ("upstreams", "echo", "base_url"),
        "https://a.example",
        [
            'upstreams.echo.base_url: has no meaning for kind "echo", only for openai, bookbag,'
            " chatbase, sonzai, agentsgt: leave it out"
        ],
    ),
    (
        ("upstreams", "llm", "file"),
        "a.jsonl",
        ['upstreams.llm.file: has no meaning for kind "openai", only for replay: leave it out'],
    ),
    (
        ("upstreams", "llm", "api"),
        "v2",
        ['upstreams.llm.api: has no meaning for kind "openai", only for bookbag: leave it out'],
    ),
    (
        ("upstreams", "bookbag", "api"),
        "bookbag-v1",
        ['upstreams.bookbag.api: expected "v1" or "v2", found "bookbag-v1"'],
    ),
    (
        ("agents", 0, "targets", 0, "model"),
        None,
        [f'agents[0].targets[0].model{AGENT}: is missing: an upstream of kind "openai" needs it'],
    ),
    (
        ("agents", 1, "targets", 0, "agent"),
        None,
        [
            'agents[1].targets[0].agent (agent 2 "Sales"): is missing: an upstream of kind'
            ' "bookbag" needs it'
        ],
    ),
    (
        ("agents", 0, "targets", 0, "agent"),
        7,
        [
            f'agents[0].targets[0].agent{AGENT}: has no meaning for kind "openai", only for'
            " bookbag, chatbase, sonzai, agentsgt: leave it out"
        ],
    ),
    (
        ("auth", "signing_keys", 0, "public_key"),
        {"file": "a.pem"},
        ['auth.signing_keys[0].public_key: is not for "HS256": leave it out'],
    ),
    (
        ("auth", "signing_keys", 1, "algorithm"),
        "HS256",
        [
            'auth.signing_keys[1].public_key: is not for "HS256": leave it out',
            'auth.signing_keys[1].secret: is missing: "HS256" needs it',
        ],
    ),
    (("auth", "jwks", 0, "url"), None, [f"auth.jwks[0]: {ONE_SOURCE}"]),
    (("auth", "jwks", 0, "file"), "a.json", [f"auth.jwks[0]: {ONE_SOURCE}"]),
]
