"""What holds for every error of the API."""


def assert_problem(answer, status: int, slug: str | None = None) -> dict:
    """The answer is a problem document (RFC 9457) without a traceback; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:mudman:problem:")
    assert problem["instance"].startswith("/")
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    if slug:
        assert problem["type"] == f"urn:mudman:problem:{slug}"
    return problem
