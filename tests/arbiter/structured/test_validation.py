"""A text is checked against a schema exactly, whoever wrote the two."""

import json
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols.errors import ConfigError
from arbiter.structured.json_text import DEPTH
from arbiter.structured.validation import BACKTRACKING_LIMIT, SCHEMA_LIMIT, checked_schema, violation_of

ORDER = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 2}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_text_that_fits_has_no_violation() -> None:
    assert violation_of(ORDER, ' {"city": "Oslo", "days": 3}\n') is None


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("Oslo", "it is not valid JSON: Expecting value (character 1 of 4)"),
        ("[]", 'the value is not of type "object"'),
        ("{}", '"city" is a required property'),
        ('{"city": 5}', 'at /city: the value is not of type "string"'),
        ('{"city": "Oslo", "days": 0}', "at /days: the value is less than the minimum of 1"),
        ('{"city": "Oslo", "day": 1}', "Additional properties are not allowed ('day' was unexpected)"),
        ('{"city": "Oslo", "city": "Bergen"}', 'it has the key "city" twice in one object'),
    ],
)
def test_a_violation_says_what_is_wrong_and_where(text: str, violation: str) -> None:
    assert violation_of(ORDER, text) == violation


def test_a_schema_may_be_given_as_its_text_whose_numbers_keep_their_digits() -> None:
    assert violation_of(json.dumps(ORDER), '{"city": "Oslo"}') is None
    assert violation_of(json.dumps(ORDER), "{}") == violation_of(ORDER, "{}")
    exact = '{"maximum": 0.10000000000000000001}'
    assert violation_of(exact, "0.10000000000000000001") is None
    assert violation_of(exact, "0.10000000000000000002") is not None


def test_a_violation_quotes_no_value_and_is_short() -> None:
    for text in ('{"city": 123456789}', json.dumps({"city": "secret", "days": ["secret"]})):
        violation = violation_of(ORDER, text)
        assert violation
        assert "123456789" not in violation
        assert "secret" not in violation
    names = {f"name{i}": 1 for i in range(10_000)}
    violation = violation_of(ORDER, json.dumps(names | {"city": "Oslo"}))
    assert violation
    assert len(violation) <= 300


def test_the_place_of_a_violation_is_a_json_pointer() -> None:
    schema = {"properties": {"a/b~": {"items": {"type": "null"}}}}
    assert violation_of(schema, '{"a/b~": [null, 1]}') == 'at /a~1b~0/1: the value is not of type "null"'


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "of type NoneType"),
        ([], "of type list"),
        ("", "it is not valid JSON"),
        ('{"type": "string", "type": "null"}', 'the key "type" twice'),
        ("[]", "is not of types"),
        ({"type": "strin"}, "at /type"),
        ({"properties": {"a": {"minLength": -1}}}, "at /properties/a/minLength: -1 is less than the minimum of 0"),
        ({"required": "a"}, "at /required"),
        ({"pattern": "("}, "at /pattern: no pattern"),
        ({"pattern": "(a{1000}){1000}"}, "at /pattern: no pattern"),
        ({"$schema": "https://example.com/my-own", "type": "string"}, "Unknown meta-schema"),
        ({"$ref": "#/$defs/none"}, "'/$defs/none' does not exist"),
        ({"const": float("nan")}, "no JSON data"),
        ({"const": "\ud800"}, "a lone surrogate"),
        ({"const": {1, 2}}, "no JSON data"),
        ({"const": json.loads(nested(DEPTH))}, f"deeper than {DEPTH}"),
        ({"description": "x" * SCHEMA_LIMIT}, f"at most {SCHEMA_LIMIT}"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_reason(schema: object, reason: str) -> None:
    for refused in (lambda: checked_schema(schema), lambda: violation_of(schema, "1")):
        with pytest.raises(ConfigError) as error:
            refused()
        assert reason in str(error.value)
        assert len(str(error.value)) < 500


def test_a_schema_that_holds_itself_or_is_very_deep_is_refused() -> None:
    own: dict[str, Any] = {}
    own["not"] = own
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"not": deep}
    for schema in (own, deep):
        with pytest.raises(ConfigError, match="no JSON data"):
            checked_schema(schema)
    while deep:  # taken apart level by level: freeing it whole would recurse
        deep = deep["not"]


@pytest.mark.parametrize("reference", ["https://example.com/schema.json", "http://127.0.0.1:9/", "file:///etc/passwd"])
def test_nothing_is_fetched(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    with pytest.raises(ConfigError, match="Retrieval is disabled"):
        checked_schema({"properties": {"a": {"$ref": reference}}})


def test_true_allows_any_json_and_false_none() -> None:
    assert violation_of(True, "[1, 2]") is None
    assert violation_of(False, "1") == "False schema does not allow the value"
    assert violation_of({}, "1 2") is not None


@given(st.integers(min_value=2**53, max_value=2**80) | st.integers(min_value=-(2**80), max_value=-(2**53)))
def test_neighbours_beyond_the_precision_of_a_float_differ(number: int) -> None:
    for keyword in ("const", "maximum"):
        assert violation_of({keyword: number}, str(number)) is None
        assert violation_of({keyword: number}, str(number + 1)) is not None
    assert violation_of({"enum": [{"a": number}]}, f'{{"a": {number - 1}}}') is not None


@given(st.integers(min_value=0, max_value=10**28))
def test_a_decimal_is_compared_with_all_its_digits(count: int) -> None:
    text, above = (f"{number // 10**25}.{number % 10**25:025}" for number in (count, count + 1))
    assert violation_of({"uniqueItems": True}, f"[{text}, {above}]") is None
    assert violation_of({"uniqueItems": True}, f"[{text}, {text}0]") is not None
    assert violation_of({"const": 0.1}, "0.1000000000000000000000001") is not None


@given(st.integers(min_value=0, max_value=10**30))
def test_a_decimal_multiple_is_exact(count: int) -> None:
    cents = f"{count // 100}.{count % 100:02}"
    assert violation_of({"multipleOf": 0.01}, cents) is None
    assert violation_of({"multipleOf": 0.01}, f"{cents}1") is not None


@pytest.mark.parametrize(
    ("text", "fits"), [("1", True), ("1.0", True), ("1e400", True), ("1.5", False), ("-0.0", True)]
)
def test_a_number_without_a_fraction_is_an_integer(text: str, fits: bool) -> None:
    assert (violation_of({"type": "integer"}, text) is None) == fits


def test_a_recursive_schema_checks_each_level() -> None:
    tree = {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["value"]}},
        "$ref": "#/$defs/node",
    }
    assert violation_of(tree, '{"value": 1, "next": {"value": 2}}') is None
    assert (
        violation_of(tree, '{"value": 1, "next": {"next": {"value": 2}}}') == 'at /next: "value" is a required property'
    )
    assert violation_of({"$ref": "#"}, "1") is None


def multiplied(levels: int, keyword: str = "anyOf", inside: str | None = None) -> dict[str, Any]:
    """A schema of ``levels`` definitions, each of which refers twice to the next one."""
    definitions: dict[str, Any] = {}
    for level in range(levels):
        both = {keyword: [{"$ref": f"#/$defs/{level + 1}"}] * 2}
        definitions[str(level)] = both if inside is None else {inside: both}
    return {"$defs": {**definitions, str(levels): {"type": "integer"}}, "$ref": "#/$defs/0"}


@pytest.mark.parametrize("inside", [None, "items", "additionalProperties"])
def test_a_schema_that_multiplies_its_parts_is_refused_before_any_text_is_checked(inside: str | None) -> None:
    assert violation_of(multiplied(4, inside=inside), "1") is None
    for levels in (30, 5000):
        with pytest.raises(ConfigError, match="parts"):
            checked_schema(multiplied(levels, inside=inside))


def test_a_reason_names_no_place_where_finding_it_could_take_long() -> None:
    assert violation_of(multiplied(14), '"x"') == "it does not fit the schema"
    array = {"type": "array", "items": {"$ref": "#"}}
    recursive = {"anyOf": [{"type": "integer"}, array, {**array, "minItems": 1}]}
    assert violation_of(recursive, f"{'[' * 12}1{']' * 12}") is None
    assert violation_of(recursive, f"{'[' * 12}null{']' * 12}") == "it does not fit the schema"
    assert "anyOf" in (violation_of(recursive, "[null]") or "")


def test_a_text_of_megabytes_is_checked() -> None:
    items = [{"city": f"city {i}", "days": i + 1} for i in range(50_000)]
    schema = {"items": ORDER}
    assert violation_of(schema, json.dumps(items)) is None
    items[-1]["days"] = 0
    assert violation_of(schema, json.dumps(items)) == "at /49999/days: the value is less than the minimum of 1"


def test_a_pattern_that_would_backtrack_is_matched_in_linear_time() -> None:
    assert violation_of({"pattern": "^(a+)+$"}, json.dumps("a" * 1_000_000 + "b")) is not None
    assert violation_of({"pattern": "^(a|aa)+$"}, json.dumps("a" * 1_000_000)) is None


def test_a_pattern_with_look_around_is_matched_in_texts_of_a_moderate_length() -> None:
    decimal = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}  # as pydantic writes it
    assert violation_of(decimal, '"12.50"') is None
    assert violation_of(decimal, '"-."') is not None
    assert "too many" in (violation_of(decimal, json.dumps("1" * BACKTRACKING_LIMIT)) or "")
    slow = {"pattern": r"^(a|aa)+\1b$"}
    assert "backtracking" in (violation_of(slow, json.dumps("a" * 1000)) or "")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-11-30", "30.11.2026"),
        ("date-time", "2026-11-30T10:00:00Z", "2026-11-30"),
        ("email", "a@example.com", "a"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
    ],
)
def test_the_formats_of_the_standard_are_checked_and_others_are_ignored(name: str, good: str, bad: str) -> None:
    assert violation_of({"format": name}, json.dumps(good)) is None
    assert violation_of({"format": name}, json.dumps(bad)) == f'the value is not a "{name}"'
    assert violation_of({"format": f"{name}-of-ours"}, json.dumps(bad)) is None


def test_a_schema_says_its_own_draft() -> None:
    older = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}
    assert violation_of(older, "3") is not None
    with pytest.raises(ConfigError, match="exclusiveMaximum"):
        checked_schema({"exclusiveMaximum": True})


SCHEMAS = st.recursive(
    st.sampled_from(
        [{"type": "integer"}, {"type": "string"}, {"type": "null"}, {"minimum": 3}, {"maxLength": 2}, True]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("ab"), inner)}),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.integers(min_value=0, max_value=5) | st.sampled_from(["", "a", "abc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


def all_fit(schema: Any, values: list[Any]) -> bool:
    return all(fits(schema, one) for one in values)


def fits(schema: Any, value: Any) -> bool:
    """The keywords of ``SCHEMAS``, by their definitions."""
    if schema is True:
        return True
    kinds = {"integer": int, "string": str, "null": type(None), "array": list}
    number = isinstance(value, int)
    return (
        ("type" not in schema or isinstance(value, kinds[schema["type"]]))
        and ("minimum" not in schema or not number or value >= schema["minimum"])
        and ("maxLength" not in schema or not isinstance(value, str) or len(value) <= schema["maxLength"])
        and ("items" not in schema or not isinstance(value, list) or all_fit(schema["items"], cast("list[Any]", value)))
        and ("anyOf" not in schema or any(fits(one, value) for one in schema["anyOf"]))
        and (
            "properties" not in schema
            or not isinstance(value, dict)
            or all(fits(inner, value[key]) for key, inner in schema["properties"].items() if key in value)
        )
    )


@given(SCHEMAS, VALUES, st.sampled_from([None, 1]))
def test_a_text_has_a_violation_exactly_if_its_data_does_not_fit(schema: Any, value: Any, indent: int | None) -> None:
    assert (violation_of(schema, json.dumps(value, indent=indent)) is None) == fits(schema, value)


KEYWORDS = ["type", "properties", "items", "$ref", "enum", "anyOf", "pattern", "required", "x", "$id"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["object", "#", "array"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYWORDS), inner),
    )
)
def test_whatever_is_given_as_a_schema_is_used_or_refused_by_one_error(schema: object) -> None:
    try:
        checked_schema(schema)
    except ConfigError:
        with pytest.raises(ConfigError):
            violation_of(schema, "{}")
    else:
        assert "not valid JSON" in (violation_of(schema, "{") or "")
