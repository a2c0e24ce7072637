"""The whole system on one machine without containers, under one supervisor: Postgres, API, dispatcher and Ray."""
