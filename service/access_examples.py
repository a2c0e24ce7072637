"""Examples of tokens and audit events in the OpenAPI document."""

TOKEN = {
    "id": "tk_8rQ2xWmPzL0a",
    "owner": "ann",
    "scope": "submit",
    "note": "laptop",
    "created_at": "2026-11-27T12:00:00Z",
    "expires_at": "2027-02-25T12:00:00Z",
    "revoked_at": None,
    "used_at": "2026-11-27T12:05:00Z",
}
NEW_TOKEN = TOKEN | {"used_at": None, "token": "mudman_" + "x" * 43}
AUDIT_PAGE = {
    "items": [
        {
            "id": 12,
            "at": "2026-11-27T12:05:00Z",
            "token_id": "tk_8rQ2xWmPzL0a",
            "owner": "ann",
            "address": "10.0.0.7",
            "method": "POST",
            "path": "/studies/st_auWsSsOdDhfiudZc/cancel",
            "status": 403,
            "detail": "not-yours",
            "request_id": "9c1f0b7de21a4c55",
        }
    ],
    "next": 12,
}
CREATION = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/NewToken"},
            "examples": {"submit": {"value": {"owner": "ann", "scope": "submit", "days": 90, "note": "laptop"}}},
        }
    },
}
