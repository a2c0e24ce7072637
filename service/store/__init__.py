"""The store: every query against Postgres lives here, and nothing else does."""
