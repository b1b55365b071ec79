"""A client's body, field by field: the edges of each, and every complaint at once."""

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.dialects.fields import Fields, fields


def problems(read: Fields) -> dict[str, str]:
    with pytest.raises(GatewayError) as caught:
        read.check()
    assert caught.value.code is ErrorCode.INVALID_BODY
    assert caught.value.details is not None
    return caught.value.details


@pytest.mark.parametrize("body", [None, True, 1, 1.5, "text", []])
def test_a_body_is_an_object(body: Json) -> None:
    """Nothing else has fields."""
    with pytest.raises(GatewayError, match="must be a JSON object") as caught:
        fields(body)

    assert caught.value.code is ErrorCode.INVALID_BODY


def test_a_body_without_a_fault_passes() -> None:
    """Unknown fields are ignored."""
    read = fields({"message": "hi", "unknown": [1]})

    assert read.message("message") == "hi"
    read.check()


@pytest.mark.parametrize(
    ("value", "agent"),
    [(1, "1"), (123, "123"), (1 << 80, str(1 << 80)), ("support", "support"), ("x" * 200,) * 2],
)
def test_an_agent_is_a_number_or_a_name(value: Json, agent: str) -> None:
    """Compared as text, whatever was written."""
    read = fields({"agentId": value})

    assert read.agent("agentId") == agent
    read.check()


@pytest.mark.parametrize("value", [None, 0, -1, True, False, 1.0, "", "x" * 201, [1], {}])
def test_no_agent(value: Json) -> None:
    """A boolean is no number, and 0 no agent."""
    read = fields({"agentId": value})

    assert read.agent("agentId") == ""
    assert problems(read) == {"agentId": "is required and must be a positive integer"}


def test_a_missing_agent_is_named() -> None:
    """As is one that is not there at all."""
    read = fields({})
    read.agent("agentId")

    assert set(problems(read)) == {"agentId"}


@pytest.mark.parametrize("value", ["a", " a ", "0", "\u2028x", "語" * 8000])
def test_a_message_is_taken_as_it_stands(value: str) -> None:
    """White space around it is the client's business; characters count, not bytes."""
    read = fields({"message": value})

    assert read.message("message", longest=8000) == value
    read.check()


@pytest.mark.parametrize("value", [None, "", "   ", "\n\t\u2003", 1, True, ["a"], {"text": "a"}])
def test_no_message(value: Json) -> None:
    """White space says nothing."""
    read = fields({"message": value})
    read.message("message")

    assert problems(read) == {"message": "is required and must be a non-empty string"}


def test_a_message_that_is_too_long() -> None:
    """By one character; where there is no limit, none is too long."""
    read = fields({"message": "x" * 8001})
    assert read.message("message") == "x" * 8001
    read.check()

    read.message("message", longest=8000)
    assert problems(read) == {"message": "must be at most 8000 characters"}


@pytest.mark.parametrize(
    ("value", "conversation"),
    [
        (None, None),
        (456, "456"),
        ("456", "456"),
        ("000456", "456"),
        ((1 << 53) - 1, "9007199254740991"),
        ("9" * 16, "9" * 16),
    ],
)
def test_a_conversation_is_a_number(value: Json, conversation: str | None) -> None:
    """v2 writes it as a string and asks for an integer: both are taken, and mean the same."""
    read = fields({"conversationId": value})

    assert read.conversation("conversationId") == conversation
    read.check()


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 10**16, 1.0, True, False, [1], {}),
        *("", "0", "000", "-1", "+1", " 1", "1_000", "1.0", "abc", "١٢", "9" * 17),
    ],
)
def test_no_conversation(value: Json) -> None:
    """Other scripts' digits, signs and underscores are none, though Python's int() takes them."""
    read = fields({"conversationId": value})

    assert read.conversation("conversationId") is None
    assert problems(read) == {"conversationId": "must be a positive integer"}


@pytest.mark.parametrize("value", [None, "a", "user_8821", "A.b-C_9", "x" * 128])
def test_a_user(value: str | None) -> None:
    """Letters, digits, dots, underscores and hyphens."""
    read = fields({"userId": value})

    assert read.user("userId") == value
    read.check()


@pytest.mark.parametrize(
    "value", ["", "x" * 129, "a b", "a@b", "é", "a\n", "٣", 8821, True, ["a"], {}]
)
def test_no_user(value: Json) -> None:
    """The pattern is told."""
    read = fields({"userId": value})

    assert read.user("userId") is None
    assert problems(read) == {"userId": "must match ^[a-zA-Z0-9._-]{1,128}$"}


@pytest.mark.parametrize("value", [None, "a", "x" * 120])
def test_a_string(value: str | None) -> None:
    """Within its length."""
    read = fields({"model": value})

    assert read.string("model", longest=120) == value
    read.check()


@pytest.mark.parametrize("value", ["", "x" * 121, 1, True, [], {}])
def test_no_string(value: Json) -> None:
    """The length is told."""
    read = fields({"model": value})

    assert read.string("model", longest=120) is None
    assert problems(read) == {"model": "must be a string of 1 to 120 characters"}


@pytest.mark.parametrize("default", [True, False])
def test_a_flag(default: bool) -> None:
    """True or false, else what it is by default."""
    assert fields({"stream": True}).flag("stream", default=default) is True
    assert fields({"stream": False}).flag("stream", default=default) is False
    assert fields({"stream": None}).flag("stream", default=default) is default
    assert fields({}).flag("stream", default=default) is default


@pytest.mark.parametrize("value", [0, 1, "true", "false", "", [], {}])
def test_no_flag(value: Json) -> None:
    """What only looks like one is not guessed at."""
    read = fields({"stream": value})
    read.flag("stream", default=True)

    assert problems(read) == {"stream": "must be true or false"}


def test_every_complaint_at_once() -> None:
    """In the message for a reader, and by field for a program."""
    read = fields({"message": "", "stream": "no", "conversationId": 5})
    read.message("message")
    read.flag("stream", default=True)
    read.conversation("conversationId")

    with pytest.raises(GatewayError) as caught:
        read.check()

    assert caught.value.details == {
        "message": "is required and must be a non-empty string",
        "stream": "must be true or false",
    }
    assert caught.value.message == (
        "message is required and must be a non-empty string; stream must be true or false"
    )


@pytest.mark.parametrize("value", ["a", "msg_789", "call/1 ü", "x" * 512])
def test_an_identifier(value: str) -> None:
    """As it stands."""
    read = fields({"messageId": value})

    assert read.identifier("messageId") == value
    read.check()


@pytest.mark.parametrize("value", [None, "", "x" * 513, 1, True, [], {}])
def test_no_identifier(value: Json) -> None:
    """It is required, and a string."""
    read = fields({"messageId": value})

    assert read.identifier("messageId") == ""
    assert problems(read) == {
        "messageId": "is required and must be a string of 1 to 512 characters"
    }


@pytest.mark.parametrize("value", ["up", None])
def test_one_word_of_some(value: Json) -> None:
    """Null may be one of them."""
    read = fields({"thumb": value})

    assert read.one_of("thumb", ("up", "down", None)) == value
    read.check()


@pytest.mark.parametrize("value", ["Up", "", 1, True, [], {}])
def test_no_word_of_some(value: Json) -> None:
    """What is allowed is told."""
    read = fields({"thumb": value})

    assert read.one_of("thumb", ("up", "down", None)) is None
    assert problems(read) == {"thumb": 'is required and must be "up", "down" or null'}


def test_a_word_that_is_not_there() -> None:
    """It is not null."""
    read = fields({})
    read.one_of("thumb", ("up", None))

    assert problems(read) == {"thumb": 'is required and must be "up" or null'}


def test_null_where_a_word_is_wanted() -> None:
    """It is only a word where it is listed as one."""
    read = fields({"thumb": None})
    read.one_of("thumb", ("up", "down"))

    assert problems(read) == {"thumb": 'is required and must be "up" or "down"'}


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": None}]])
def test_a_payload(value: Json) -> None:
    """Anything, or nothing."""
    read = fields({"output": value})

    assert read.payload("output", largest=100) == value
    assert fields({}).payload("output", largest=100) is None
    read.check()


def test_a_payload_that_is_too_large() -> None:
    """In bytes, as JSON, with its quotes."""
    read = fields({"output": "ü" * 4})
    read.payload("output", largest=10)
    read.check()

    read.payload("output", largest=9)
    assert problems(read) == {"output": "must have at most 9 bytes as JSON"}


def test_what_a_body_has() -> None:
    """Null says nothing; what is empty or false does."""
    read = fields({"a": None, "b": "", "c": False, "d": 0})

    assert [name for name in "abcdx" if read.has(name)] == ["b", "c", "d"]
