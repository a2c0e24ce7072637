"""Who may ask for what: tokens, scopes, owners, limits. Why each is there: docs/access.md."""
