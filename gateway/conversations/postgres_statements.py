"""What the store says to PostgreSQL.

Each operation is one statement, and so one round trip and atomic by itself. Those that lock several
rows pass over locked ones (SKIP LOCKED): no two can wait for each other.
"""

COLUMNS = (
    "id, owner, agent, user_id, title, status, created, updated, length, version, upstream_ids"
)
_OF_MESSAGE = "position, id, role, created, parts, about, feedback"

_LOAD = f"""
    SELECT found.*, said.* FROM (
        SELECT {COLUMNS} FROM conversations WHERE id = $1 AND owner = $2 AND agent = $3
    ) AS found LEFT JOIN LATERAL (
        SELECT {_OF_MESSAGE} FROM messages
        WHERE conversation = found.id AND position {{bound}} ORDER BY position DESC LIMIT $4
    ) AS said ON true ORDER BY position
"""
LOAD_BEFORE = _LOAD.format(bound="< $5")
LOAD_UPTO = _LOAD.format(
    bound="<= (SELECT position FROM messages WHERE conversation = $1 AND id = $5)"
)

_PLACE = "owner = $1 AND agent = $2"
_USER = f"{_PLACE} AND user_id = $3"
_PAGE = f"""
    SELECT {COLUMNS} FROM conversations WHERE {{where}} AND (updated, id) < ({{after}})
    ORDER BY updated DESC, id DESC LIMIT {{limit}}
"""
_COUNT = "SELECT count(*) FROM conversations WHERE "
OF_PLACE = (_COUNT + _PLACE, _PAGE.format(where=_PLACE, after="$3, $4", limit="$5"))
OF_USER = (_COUNT + _USER, _PAGE.format(where=_USER, after="$4, $5", limit="$6"))

EVERYTHING = f"SELECT {COLUMNS} FROM conversations WHERE id > $1 ORDER BY id LIMIT $2"

# The messages of the old branch and the new ones are never the same rows: what stands where a new
# one goes is overwritten, what stands behind them is cut off. The order of the two says nothing.
_SAVE = f"""
    WITH written AS ({{write}} RETURNING id),
    cut AS (
        DELETE FROM messages USING written WHERE conversation = written.id AND position >= $9
    ),
    said AS (
        INSERT INTO messages (conversation, {_OF_MESSAGE})
        SELECT written.id, given.* FROM written, unnest(
            $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16::text[], $17::text[],
            $18::text[]
        ) AS given
        ON CONFLICT (conversation, position) DO UPDATE SET
            (id, role, created, parts, about, feedback) = (
                excluded.id, excluded.role, excluded.created, excluded.parts, excluded.about,
                excluded.feedback
            )
    ),
    repeatable AS (
        INSERT INTO answered (subject, key, fingerprint, conversation, message, expires)
        SELECT $19::text, $20::text, $21::text, $22::bigint, $23::bigint, $24::bigint
        FROM written WHERE $19::text IS NOT NULL
        ON CONFLICT (subject, key) DO UPDATE SET
            (fingerprint, conversation, message, expires) = (
                excluded.fingerprint, excluded.conversation, excluded.message, excluded.expires
            )
    ),
    released AS (DELETE FROM leases WHERE name = ANY($25::bigint[]) AND holder = $26)
    SELECT id FROM written
"""
_VALUES = "$1::bigint, $2::text[], $3, $4, $5, $6, $7, $8, $9::bigint, $10::bigint, $11"
SAVE_NEW = _SAVE.format(
    write=f"INSERT INTO conversations ({COLUMNS}) VALUES ({_VALUES}) ON CONFLICT DO NOTHING"
)
SAVE_CHANGED = _SAVE.format(
    write=f"UPDATE conversations SET ({COLUMNS}) = ({_VALUES}) WHERE id = $1 AND version = $10 - 1"
)

MARK = "UPDATE messages SET feedback = $3 WHERE conversation = $1 AND id = $2"

ANSWERED = """
    SELECT subject, key, fingerprint, conversation, message, expires
    FROM answered WHERE subject = $1 AND key = $2 AND expires > $3
"""

WRITABLE = "SELECT NOT pg_is_in_recovery()"

CLAIM = """
    INSERT INTO leases AS held VALUES ($1, $2, now() + $3)
    ON CONFLICT (name) DO UPDATE SET (holder, expires) = (excluded.holder, excluded.expires)
    WHERE held.expires < now() RETURNING name
"""
RELEASE = "DELETE FROM leases WHERE name = ANY($1::bigint[]) AND holder = $2"
RENEW = """
    UPDATE leases SET expires = now() + $3 WHERE name IN (
        SELECT name FROM leases WHERE name = ANY($1::bigint[]) AND holder = $2
        FOR UPDATE SKIP LOCKED
    )
"""

# How many conversations go at once: with their messages they are locked until all are gone.
CHUNK = 200

FORGET_OLD = f"""
    DELETE FROM conversations WHERE id IN (
        SELECT id FROM conversations WHERE updated < $1 ORDER BY updated LIMIT {CHUNK}
        FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""
# Of users who have too many, which the index alone tells.
BEYOND = """
    SELECT old.id, old.updated FROM (
        SELECT owner, agent, user_id FROM conversations WHERE user_id IS NOT NULL
        GROUP BY owner, agent, user_id HAVING count(*) > $1
    ) AS whose CROSS JOIN LATERAL (
        SELECT id, updated FROM conversations
        WHERE owner = whose.owner AND agent = whose.agent AND user_id = whose.user_id
        ORDER BY updated DESC, id DESC OFFSET $1
    ) AS old LIMIT 10000
"""
# Those that are as they were found: one that went on meanwhile has another `updated`.
FORGET = """
    DELETE FROM conversations WHERE id IN (
        SELECT id FROM conversations
        WHERE (id, updated) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))
        FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""
FORGET_KEYS = """
    DELETE FROM answered WHERE (subject, key) IN (
        SELECT subject, key FROM answered WHERE expires <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING message
"""
FORGET_LEASES = """
    DELETE FROM leases WHERE name IN (
        SELECT name FROM leases WHERE expires < now() FOR UPDATE SKIP LOCKED
    )
"""

FIGURES = """
    SELECT (SELECT version FROM oc_gateway_schema), count(*), coalesce(sum(length), 0)::bigint, (
        SELECT sum(pg_total_relation_size(name))::bigint
        FROM unnest('{conversations, messages, answered, leases}'::regclass[]) AS name
    ) FROM conversations
"""
