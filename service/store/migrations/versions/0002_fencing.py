"""Fencing reaches Optuna's tables

A runner that lost its lease may not know it yet. Its connections to Optuna's tables carry the group and the epoch of
its lease as settings (``mudman.group``, ``mudman.epoch``); these triggers refuse its writes once the group has been
claimed again. Connections without the settings (a dashboard, an operator) are not fenced.

The lease row is read under a share lock: a claim that is under way is waited for, and one that comes later waits for
this write's transaction, so that no write slips through between check and commit.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    "trials",
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
)

FUNCTION = """
create function mudman.refuse_stale_epoch() returns trigger language plpgsql as $$
declare
    leased text := current_setting('mudman.group', true);
    held text := current_setting('mudman.epoch', true);
    latest bigint;
begin
    if coalesce(leased, '') = '' or coalesce(held, '') = '' then
        return null;
    end if;
    select epoch into latest from mudman.study_group where id = leased for share;
    if latest is distinct from held::bigint then
        raise exception 'lease lost: group % is at epoch %, this connection holds %', leased, latest, held
            using errcode = 'MU001';
    end if;
    return null;
end
$$
"""


def upgrade() -> None:
    op.execute(FUNCTION)
    for table in TABLES:
        # Once per statement: Optuna inserts a trial's rows in bulk. After, so that the statement's cost is paid only
        # by writes that would have succeeded otherwise; raising undoes them all the same.
        op.execute(
            f"create trigger refuse_stale_epoch after insert or update or delete on optuna.{table} "
            "for each statement execute function mudman.refuse_stale_epoch()"
        )


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"drop trigger refuse_stale_epoch on optuna.{table}")
    op.execute("drop function mudman.refuse_stale_epoch()")
