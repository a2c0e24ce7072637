"""The service: REST API, command line, and the store in Postgres. Knows no torch and no Ray."""
