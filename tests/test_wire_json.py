"""JSON: read leniently, written on one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Json
from gateway.wire import json

JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_can_be_read(value: Json) -> None:
    """Any value comes back."""
    assert json.loads(json.dumps(value)) == value


@given(JSON)
def test_it_is_one_line_by_anybodys_idea(value: Json) -> None:
    """Clients that split lines as Python does find one; control characters are escaped anyway."""
    assert len(json.dumps(value).decode().splitlines()) == 1


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029", "\n", "\r", "\x0b", "\x0c"])
def test_line_ends_are_escaped(character: str) -> None:
    """In values and in names, and as the same character."""
    written = json.dumps({f"a{character}": f"語{character}b"})

    assert character.encode() not in written
    assert json.loads(written) == {f"a{character}": f"語{character}b"}


@given(
    st.lists(st.text() | st.text('",\\\n \u2028'), max_size=5),
    st.sampled_from([b"", b"},{", b'","']),
)
def test_strings_are_joined_as_each_is_written(texts: list[str], between: bytes) -> None:
    """Whatever they are, also what looks like the end of one and the start of the next."""
    assert json.joined(texts, between) == between.join(map(json.dumps, texts))


def test_other_scripts_are_not_escaped() -> None:
    """They are UTF-8, which is shorter."""
    assert json.dumps({"text": "語🎉"}) == '{"text":"語🎉"}'.encode()


def test_what_json_does_not_know_is_an_error() -> None:
    """A bug of ours, so no error of JSON's."""
    with pytest.raises(TypeError):
        json.dumps({"tags": {1, 2}})


@pytest.mark.parametrize(
    "data", [b"", b" ", b"{", b"{'a':1}", b"nope", b"[1,]", b"NaN", b"1 2", b"\xff", b'"a\nb"']
)
def test_what_is_not_json_is_an_error(data: bytes) -> None:
    """Of one kind, whatever is wrong with it."""
    with pytest.raises(json.InvalidJson):
        json.loads(data)


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """One bad character does not cost a turn."""
    assert json.loads(b'{"text":"a\xffb\xe8\xaa"}') == {"text": "a�b�"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (rb'"\ud83d"', "�"),
        (rb'"a\ude00b"', "a�b"),
        (rb'"\uD83D\uD83D\uDE00"', "�😀"),
        (rb'"\ud83d\ude00 \ud83d"', "😀 �"),
        (rb'"\ud83dA"', "�A"),
        (rb'"\\ud83d \ud83d"', r"\ud83d �"),
        (rb'"\"\\\ud83d\n"', '"\\�\n'),
        (rb'{"\udfff":[]}', {"�": []}),
    ],
)
def test_half_a_surrogate_pair_is_replaced(written: bytes, value: Json) -> None:
    """As an upstream writes it that cuts its text between the halves of an emoji."""
    assert json.loads(written) == value
    json.dumps(value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b'{"a":NaN,"b":[NaN, Infinity,-Infinity]}', {"a": None, "b": [None, None, None]}),
        (b'{"a": NaN ,\n"b":\t-Infinity}', {"a": None, "b": None}),
        (rb'{"a,NaN":NaN,"b":"\",NaN: Infinity\\"}', {"a,NaN": None, "b": '",NaN: Infinity\\'}),
        (rb'["\ud83d,NaN",NaN]', ["\ufffd,NaN", None]),
    ],
)
def test_what_is_no_number_is_null(written: bytes, value: Json) -> None:
    """As Python's json writes it, which one field of the usage is enough for."""
    assert json.loads(written) == value


@pytest.mark.parametrize(
    "data", [b"[NaNs]", b"[-NaN]", b"[nan]", b"{NaN:1}", b'[",NaN]', b"[1NaN]"]
)
def test_what_is_near_to_it_is_an_error(data: bytes) -> None:
    """Nothing else is mended."""
    with pytest.raises(json.InvalidJson):
        json.loads(data)


@pytest.mark.parametrize("unit", [b'\\"', b'"', b'"\\', b"NaN,", b'{"', b"\\"])
def test_what_is_no_json_is_looked_through_once(unit: bytes) -> None:
    """Else a string that does not end, and all that may be mistaken for one, would take hours."""
    with pytest.raises(json.InvalidJson):
        json.loads(b'["' + unit * ((1 << 20) // len(unit)))


def nested(depth: int, start: bytes = b"[", end: bytes = b"]") -> bytes:
    return start * depth + b"1" + end * depth


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(start: bytes, end: bytes) -> None:
    """What can be read can be written again, within objects of ours; what is deeper is refused."""
    deepest = json.loads(nested(json.MAX_DEPTH, start, end))
    assert json.dumps({"data": {"parts": [{"input": deepest}]}})

    for depth in (json.MAX_DEPTH + 1, 500, 5000):
        with pytest.raises(json.InvalidJson):
            json.loads(nested(depth, start, end))


def test_many_brackets_are_not_deep() -> None:
    """Neither in a row nor in a text."""
    row = b"[" + b",".join([b"[]"] * 1000) + b"]"

    assert json.loads(row) == [[]] * 1000
    assert json.loads(b'"' + b"[" * 1000 + b'"') == "[" * 1000


ODD: list[Json] = [None, True, False, 0, -1, 1.5, "", "a", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"a"], ["a"]),
        ([b"a", b"", rb"\"\n"], ["a", "", '"\n']),
        ([b'a","b'], None),
        ([b'a","b', b"c"], None),
        ([b"a\\", b"b"], None),
        ([b'a",["b', b"c", b'd"],"e'], None),
        ([b'a",{"b":"', b'c"},"d'], None),
        ([b"a\nb"], None),
        ([rb"\ud83d"], None),
    ],
)
def test_strings(pieces: list[bytes], texts: list[str] | None) -> None:
    """Each piece is one string, whatever it would become together with the others."""
    assert json.strings(pieces) == texts


@pytest.mark.parametrize(
    ("piece", "text"),
    [(b"a", "a"), (rb"\ud83d", "\ufffd"), (b'a","b', None), (b"a\nb", None), (b'" ', None)],
)
def test_string(piece: bytes, text: str | None) -> None:
    """As mended as any value."""
    assert json.string(piece) == text


def test_mapping_and_array() -> None:
    """The value if it is of that kind, else an empty one."""
    for value in ODD:
        assert json.mapping(value) == (value if isinstance(value, dict) else {})
        assert json.array(value) == (value if isinstance(value, list) else [])


def test_text() -> None:
    """A string, else none."""
    for value in ODD:
        assert json.text(value) == (value if isinstance(value, str) else "")


@pytest.mark.parametrize(
    ("value", "known"),
    [("a", "a"), (7, "7"), (0, "0"), ("", None), (True, None), (1.0, None), (None, None)],
)
def test_identifier(value: Json, known: str | None) -> None:
    """Ids come as strings or as integers; a boolean is neither."""
    assert json.identifier(value) == known


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        (12.9, 12),
        ((1 << 53) - 1, (1 << 53) - 1),
        (1 << 53, None),
        (1e308, None),
        (float("inf"), None),
        (float("nan"), None),
        (-1, None),
        (-0.5, None),
        (True, None),
        ("12", None),
        (None, None),
    ],
)
def test_count(value: Json, known: int | None) -> None:
    """A whole number that every client can hold and we can write, else unknown."""
    found = json.count(value)

    assert found == known
    assert isinstance(found, int) == (known is not None)


@pytest.mark.parametrize(
    ("value", "known"),
    [(0, 0), (1, 1), (1.5, 1.5), (-1, None), (-0.5, None), (True, None), ("1", None), (None, None)],
)
def test_amount(value: Json, known: float | None) -> None:
    """A number as it was written: what was whole stays whole."""
    found = json.amount(value)

    assert found == known
    assert type(found) is type(known)


def test_for_peoples_eyes() -> None:
    """Indented, and ended as a text file is."""
    assert json.dumps_indented({"a": ["語"]}) == '{\n  "a": [\n    "語"\n  ]\n}\n'
