#!/bin/sh
# Brings the database to this version, and lets in the tokens that were made with the system's other secrets. May be
# repeated: a token that is known stays as it is, also one that was revoked.
set -eu
python -m service.store.migrate
folder=${MUDMAN_TOKENS:-/run/secrets}
mudman token adopt "$folder/admin_token" --owner admin --scope admin --days 365 --note "made with the system"
mudman token adopt "$folder/metrics_token" --owner prometheus --scope read --days 3650 --note "reads /metrics"
