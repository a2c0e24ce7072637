"""Server-sent events as their standard has them."""

from service.server_sent import messages


def test_messages_names_comments_and_lines():
    lines = [
        ": mudman",
        "retry: 1000",
        "",
        'data: {"sequence":1}',
        "id: 1",
        "",
        "event: curves",
        'data: {"a":',
        "data: 2}",
        "",
        ": ping",
        "",
        "event: standing",
        "",
        'data:{"sequence":2}',
        "",
        'data: {"cut": "off',
    ]
    assert list(messages(lines)) == [
        ("alive", None),
        ("event", {"sequence": 1}),
        ("curves", {"a": 2}),
        ("alive", None),
        ("event", {"sequence": 2}),
    ]
