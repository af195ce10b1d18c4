"""Lines become the rows that ``merganser ingest`` makes of them."""

import functools
import json
import random
import re
import uuid

import pytest

from merganser._mixpanel.members import LineError
from merganser._mixpanel.rows import EventRows, ProfileRows

SECOND = 1_704_067_200_000_000  # 2024-01-01


def event(line, *, exactly=False):
    rows = EventRows()
    (rows._push_exactly if exactly else rows.push)(line if isinstance(line, bytes) else line.encode())
    return _only(rows.flush())


def profile(line):
    rows = ProfileRows()
    rows.push(line.encode())
    return _only(rows.flush())


def _only(batch):
    assert batch.num_rows == 1
    names = batch.schema.names
    values = [batch.column(name).cast("int64") if name in ("event_time", "last_seen") else batch.column(name) for name in names]
    return {name: value[0].as_py() for name, value in zip(names, values, strict=True)}


IDS = '"time":1704067200,"distinct_id":"d","$insert_id":"i"'


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        (f"{{{IDS}}}", "{}"),
        (f'{{{IDS},"a":1}}', '{"a":1}'),
        (f'{{"a":1,{IDS}}}', '{"a":1}'),
        (f'{{ "a" : 1.50 , "b":"\\u00e9" ,{IDS}}}', '{"a" : 1.50 , "b":"\\u00e9"}'),
        (f'{{"a":1 ,{IDS}, "b":2 }}', '{"a":1,"b":2}'),
        (f'{{"a":1, {IDS} ,"b":2}}', '{"a":1,"b":2}'),
        (f'{{"a":1, "b":2,{IDS}}}', '{"a":1, "b":2}'),
        (
            '{"$a":1,"time":1704067200,"x":{"time":1, "y":[ ]},"distinct_id":"d","$insert_id":"i","e":1e5,"z":"ü😀"}',
            '{"$a":1,"x":{"time":1, "y":[ ]},"e":1e5,"z":"ü😀"}',
        ),
        # What looks like a member that is cut, and is nested, or text.
        (
            '{"x":{"time":1704067200,"distinct_id":"d","$insert_id":"i"},"time":1704067200,"distinct_id":"d","$insert_id":"i"}',
            '{"x":{"time":1704067200,"distinct_id":"d","$insert_id":"i"}}',
        ),
        (f'{{"s":",\\"time\\":1704067200",{IDS}}}', '{"s":",\\"time\\":1704067200"}'),
        # A key may be written with escapes and mean the same.
        ('{"t\\u0069me":1704067200,"distinct_id":"d","$insert_id":"i","\\u0061":1}', '{"\\u0061":1}'),
        ('{"x":{"time":1704067200},"time" : 1704067200,"distinct_id":"d","$insert_id":"i"}', '{"x":{"time":1704067200}}'),
        ('{"time":17040672000,"time":1704067200,"distinct_id":"d","$insert_id":"i","a":0}', '{"a":0}'),
        (f'{{{IDS},"time2":1704067200,"a":12345678901234567890123}}', '{"time2":1704067200,"a":12345678901234567890123}'),
    ],
)
def test_an_event_is_cut_and_the_rest_stays(properties, wanted):
    line = f'{{"event":"buy","properties":{properties}}}'
    row = {"event_name": "buy", "event_time": SECOND, "distinct_id": "d", "insert_id": "i", "properties": wanted}
    assert event(line) == row
    assert event(line, exactly=True) == row


def test_other_members_of_the_line_join_the_properties():
    line = '{"source":"x","event":"e","properties":{"time":1,"$insert_id":"i","a":1},"n": 2}'
    assert event(line)["properties"] == '{"a":1,"source":"x","n": 2}'
    assert event('{"event":"e","properties":{"time":1,"$insert_id":"i"},"n":{}}')["properties"] == '{"n":{}}'
    assert event('{"event":"e","properties":{"time":1},"properties":{"$insert_id":"i","a":{}}}')["properties"] == '{"a":{}}'


@pytest.mark.parametrize("name", ["distinct_id", "$insert_id", "time"])
@pytest.mark.parametrize("value", ['""', "null", "5"])
def test_a_nested_member_is_not_taken_for_one_that_is_missing(name, value):
    nested = f'{{"x":{{"a":1,"{name}":{value},"b":2}},"c":3}}'
    assert event(f'{{"event":"e","properties":{{"time":5,{nested[1:]}}}')["properties"] == nested
    assert event(f'{{"event":"e","properties":{{{nested[1:-1]},"time":5}}}}')["properties"] == nested


def test_ids_may_be_missing_or_numbers():
    def ids(members):
        row = event(f'{{"event":"e","properties":{{"time":1{members}}}}}')
        return row["distinct_id"], row["insert_id"]

    assert ids(',"distinct_id":12345678901234567890,"$insert_id":1.50') == ("12345678901234567890", "1.50")
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "merganser.v1/insert_id")
    wanted = str(uuid.uuid5(namespace, 'e\x001000000\0\0{"a":1}\0'))
    for members in (',"a":1', ',"a":1,"$insert_id":""', ',"distinct_id":null,"a":1', ',"$insert_id":null,"a":1'):
        assert ids(members) == ("", wanted)
    assert ids(',"a":2')[1] != wanted
    assert ids(',"a":1,"distinct_id":"x"')[1] != wanted


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event":"e","properties":{}}', "`time` is missing"),
        ('{"event":"e","properties":{"time":"soon"}}', "`time` is not a time: `soon`"),
        ('{"event":"e","properties":{"time":99999999999999999999}}', "`time` is not a time: `99999999999999999999`"),
        ('{"properties":{"time":1}}', "`event` is missing"),
        ('{"event":null,"properties":{"time":1}}', "`event` is missing"),
        ('{"event":"e"}', "`properties` is missing"),
        ('{"event":"e","n":1}', "`properties` is missing"),
        ('{"event":"e","properties":[1]}', "`properties` is not an object"),
        ('{"event":"e","properties":{"time":1,"distinct_id":{}}}', "`distinct_id` is an object, not text"),
        ("[]", "not a JSON object"),
        ('{"event":"e"', "not JSON: Input data was truncated"),
        ('{"event":"e","properties":{"time":1}}{}', "not JSON: trailing characters (byte 38)"),
        ('{"event":"e","properties":{"time":1,"a":NaN}}', "not JSON: invalid character (byte 40)"),
        ('{"event":"e","properties":{"time":1,"a":"\\ud800"}}', "not JSON: "),
        ('{"event":"\\ud800","properties":{"time":1}}', "not JSON: "),
        (b'{"event":"e","properties":{"time":1,"a":"\xff"}}', "not UTF-8 at byte 42"),
        (b'{"event":"\xff","properties":{"time":1}}', "not UTF-8 at byte 11"),
        ('{"event":"e","properties":{"time":1,"a":' + "[" * 5000 + "]" * 5000 + "}}", "not JSON: nested too deep"),
    ],
)
def test_bad_events_are_told_by_their_reason(line, reason):
    with pytest.raises(LineError) as caught:
        event(line)
    assert str(caught.value).startswith(reason)


def test_profiles_are_cut():
    def check(line, distinct_id, properties, last_seen):
        assert profile(line) == {"distinct_id": distinct_id, "properties": properties, "last_seen": last_seen}

    line = '{"$distinct_id":7,"$properties":{"$last_seen":"2024-01-01T00:00:00","$name":"Ann","n":1.0}}'
    check(line, "7", '{"$name":"Ann","n":1.0}', SECOND)
    check('{"$distinct_id":"b","$properties":{"$last_seen":""}}', "b", "{}", None)
    check('{"$distinct_id":"c","$properties":{"$last_seen":null,"a":[1, 2]}}', "c", '{"a":[1, 2]}', None)
    check('{"$distinct_id":"d"}', "d", "{}", None)
    with pytest.raises(LineError, match=r"`\$distinct_id` is missing"):
        profile('{"$properties":{}}')


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("1704067200", SECOND),
        ("1704067200000", SECOND),
        ("1704067200000000", SECOND),
        ("1704067200000000000", SECOND),
        ("-1704067200000000001", -SECOND - 1),
        ("1704067200.5", SECOND + 500_000),
        ("1704067200.123456", SECOND + 123_456),
        ("1.7040672e9", SECOND),
        ("-1", -1_000_000),
        ("0", 0),
        ('"1704067200"', SECOND),
        ('"2024-01-01"', SECOND),
        ('"2024-01-01T00:00:00"', SECOND),
        ('"2024-01-01 00:00:00"', SECOND),
        ('"2024-01-01T00:00:00Z"', SECOND),
        ('"2024-01-01T02:00:00+02:00"', SECOND),
        ('"2023-12-31T19:00:00-0500"', SECOND),
        ('"2024-01-01T00:00:00.000001"', SECOND + 1),
    ],
)
def test_times(value, micros):
    assert event(f'{{"event":"e","properties":{{"time":{value}}}}}')["event_time"] == micros


@pytest.mark.parametrize(
    "value", ['"yesterday"', '"2024-13-01"', "1e300", "true", '"NaN"', '"inf"', '"1_000"', '"2024-01-01T25:00:00"']
)
def test_what_is_no_time(value):
    with pytest.raises(LineError, match="`time` is not a time"):
        event(f'{{"event":"e","properties":{{"time":{value}}}}}')


def test_the_quick_way_and_the_exact_way_agree():
    source = random.Random(7)
    names = ["time", "distinct_id", "$insert_id", "a", "time ", 'x","time":5', "é", "event", "properties"]
    texts = ["", "d", "ü", 'q"', "\\", ',"time":5', '"time":5', "x,y", " ", "\n"]

    def value(depth):
        kind = source.randrange(8 if depth else 6)
        if kind < 2:
            return source.choice(texts)
        if kind < 5:
            return source.choice([0, 5, 1.5, -1, None, True, 10**20])
        if kind == 5:
            return 5
        if kind == 6:
            return [value(depth - 1) for _ in range(source.randrange(3))]
        return {source.choice(names): value(depth - 1) for _ in range(source.randrange(4))}

    quick, exact = EventRows(), EventRows()
    for _ in range(10_000):
        members = [(source.choice(names), value(2)) for _ in range(source.randrange(3))]
        members += [("time", 5), ("distinct_id", source.choice(texts)), ("$insert_id", source.choice(texts))][
            : source.choice([1, 2, 3, 3])
        ]
        source.shuffle(members)
        comma, colon = separators = source.choice([(",", ":"), (", ", ": "), (" ,", " :")])
        dump = functools.partial(json.dumps, ensure_ascii=source.random() < 0.5, separators=separators)
        properties = comma.join(colon.join(map(dump, member)) for member in members)
        line = f'{{"event":"e","properties":{{{properties}}}}}'.encode()
        try:
            exact._push_exactly(line)
        except LineError as error:
            with pytest.raises(LineError, match=f"^{re.escape(str(error))}$"):
                quick.push(line)
        else:
            quick.push(line)
    quick, exact = quick.flush(), exact.flush()
    assert quick.num_rows > 5_000
    assert quick.equals(exact)


def test_nearly_all_lines_of_a_real_export_go_the_quick_way(sample_events, monkeypatch):
    rows, exact = EventRows(), EventRows()
    for line in sample_events[:2000]:
        exact._push_exactly(line)
    monkeypatch.delattr(EventRows, "_push_exactly")
    for line in sample_events[:2000]:
        rows.push(line)
    assert rows.flush().equals(exact.flush())
