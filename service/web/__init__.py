"""Web pages: what the REST API answers, for people. Rendered here; scripts only freshen them."""
