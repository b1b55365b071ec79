"""The tables in PostgreSQL, and how they came to be: one script for each version of the schema.

Scripts that were released are never changed; what they lack is another one's. Text that is compared
has the collation "C": an index in a language's order is broken by an update of the system's.
"""

from gateway.conversations.postgres_pool import Connection
from gateway.conversations.store import StoreError

SCRIPTS = (
    """
    CREATE TABLE conversations (
        id bigint PRIMARY KEY,
        -- Workspace and origin, either may be NULL: arrays with NULLs in them can be compared by an
        -- index, while IS NOT DISTINCT FROM uses none.
        owner text[] COLLATE "C" NOT NULL,
        agent bigint NOT NULL,
        user_id text COLLATE "C",
        title text,
        status text NOT NULL,
        created bigint NOT NULL,
        updated bigint NOT NULL,
        length bigint NOT NULL,
        version bigint NOT NULL,
        upstream_ids text NOT NULL
    );
    CREATE INDEX conversations_place ON conversations (owner, agent, updated, id);
    CREATE INDEX conversations_user ON conversations (owner, agent, user_id, updated, id)
        WHERE user_id IS NOT NULL;
    CREATE INDEX conversations_updated ON conversations (updated);

    -- JSON is text, for jsonb cannot hold "\\u0000".
    CREATE TABLE messages (
        conversation bigint NOT NULL REFERENCES conversations ON DELETE CASCADE,
        position bigint NOT NULL,
        id bigint NOT NULL,
        role text NOT NULL,
        created bigint NOT NULL,
        parts text NOT NULL,
        about text,
        feedback text,
        PRIMARY KEY (conversation, position)
    );
    CREATE INDEX messages_id ON messages (conversation, id);

    CREATE TABLE answered (
        subject text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        fingerprint text NOT NULL,
        conversation bigint NOT NULL,
        message bigint NOT NULL,
        expires bigint NOT NULL,
        PRIMARY KEY (subject, key)
    );
    CREATE INDEX answered_expires ON answered (expires);

    -- Not in the log: after a crash of the server it is empty, and nobody holds anything.
    CREATE UNLOGGED TABLE leases (
        name bigint PRIMARY KEY,
        holder bigint NOT NULL,
        expires timestamptz NOT NULL
    );
    """,
)

# Of advisory locks there is one room for all of a database's users: any number may be this one.
_LOCK = 0x6F632D67617465

# Not to_regclass(), which may remember that there was none before the lock was waited for.
_EXISTS = """
    SELECT EXISTS (
        SELECT FROM pg_class WHERE relname = 'oc_gateway_schema' AND pg_table_is_visible(oid)
    )
"""
_CREATE = "CREATE TABLE oc_gateway_schema (version bigint NOT NULL)"


async def migrate(connection: Connection, scripts: tuple[str, ...] = SCRIPTS) -> int:
    """Bring the schema up to date; the version it had, 0: there was none. Safe when several
    gateways do it at once. Raises `StoreError` for a newer schema, and for a database whose
    encoding cannot hold every text."""
    encoding: str = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"the database has the encoding {encoding}: create one that has UTF8")
    before = await version(connection)
    # One that is up to date is left alone, by a user who may not create tables as well.
    if before < len(scripts):
        return await _migrate(connection, scripts)
    return _known(before, scripts)


async def version(connection: Connection) -> int:
    """The version of the schema; 0: there is none."""
    if not await connection.fetchval(_EXISTS):
        return 0
    found: int = await connection.fetchval("SELECT version FROM oc_gateway_schema")
    return found


async def _migrate(connection: Connection, scripts: tuple[str, ...]) -> int:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        before = _known(await version(connection), scripts)
        if not before:
            await connection.execute(_CREATE)
            await connection.execute("INSERT INTO oc_gateway_schema VALUES (0)")
        for script in scripts[before:]:
            await connection.execute(script)
        await connection.execute("UPDATE oc_gateway_schema SET version = $1", len(scripts))
        return before


def _known(found: int, scripts: tuple[str, ...]) -> int:
    if found > len(scripts):
        raise StoreError(
            f"the database has version {found} of the schema, and this gateway knows"
            f" {len(scripts)}: run the newer gateway"
        )
    return found
