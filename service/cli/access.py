"""``mudman token`` and ``mudman audit``: who may do what, and who did."""

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.keeping import StateDir
from service.cli.remote import AsJson, Url, connect

if TYPE_CHECKING:
    from service.client import Client

token = typer.Typer(no_args_is_help=True, help="Make, list, revoke and save tokens.")

Direct = Annotated[
    str | None,
    typer.Option("--url", help="Ask this API, as an admin. Default: MUDMAN_URL, else the database of the system here."),
]


def register(app: typer.Typer) -> None:
    for command in (create, adopt, list_tokens, revoke, save):
        token.command(command.__name__.partition("_")[0])(command)
    app.add_typer(token, name="token")
    app.command()(audit)


def create(
    owner: Annotated[str, typer.Option(help="In whose name it acts.")],
    scope: Annotated[str, typer.Option(help="read, submit or admin.")] = "submit",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Until it expires.")] = 90,
    note: Annotated[str, typer.Option(help="Where it is used.")] = "",
    keep: Annotated[bool, typer.Option("--save", help="Keep it for this user's commands; do not print it.")] = False,
    as_json: AsJson = False,
    url: Direct = None,
    state_dir: StateDir = None,
) -> None:
    """Make a token, and print it this once. Only a hash of it is kept."""
    from service import credentials
    from service.cli import display

    wanted = {"owner": owner, "scope": scope, "days": days, "note": note}
    with _keeper(url, state_dir) as keeper:
        made = keeper.create_token(**wanted)
    said = dict(made)
    if keep:
        said["saved"] = str(credentials.save(said.pop("token")))
    if as_json:
        display.as_json(said)
        return
    where = f"kept in {said['saved']}" if keep else said["token"]
    display.stdout().print(where, markup=False)
    until = said["expires_at"][:10]
    typer.echo(
        f"{said['id']}: {scope} for {owner}, until {until}. Revoke it: mudman token revoke {said['id']}", err=True
    )


def adopt(
    file: Annotated[Path, typer.Argument(help="Holds the token: mudman_ and at least 43 random characters.")],
    owner: Annotated[str, typer.Option(help="In whose name it acts.")],
    scope: Annotated[str, typer.Option(help="read, submit or admin.")] = "submit",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Until it expires.")] = 365,
    note: Annotated[str, typer.Option(help="Where it is used.")] = "",
    state_dir: StateDir = None,
) -> None:
    """Let a token in that was made elsewhere, such as a mounted secret. One that is known stays as it is, also where it
    was revoked."""
    try:
        value = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="FILE") from None
    with _Database(state_dir) as database:
        made = database.create_token(owner=owner, scope=scope, days=days, note=note, value=value)
    typer.echo(f"{made['id']}: {made['scope']} for {made['owner']}, until {made['expires_at'][:10]}")


def list_tokens(
    owner: Annotated[str | None, typer.Option(help="Only those that act for it.")] = None,
    as_json: AsJson = False,
    url: Direct = None,
    state_dir: StateDir = None,
) -> None:
    """List tokens, newest first, those that are over too."""
    from service.cli import display

    with _keeper(url, state_dir) as keeper:
        found = keeper.tokens(owner)
    columns = {"id": "id", "owner": "owner", "scope": "scope", "note": "note", "expires_at": "expires (UTC)"}
    columns |= {"revoked_at": "revoked", "used_at": "used"}
    shown = [{title: _short(one[name]) for name, title in columns.items()} for one in found]
    display.rows(found if as_json else shown, as_json)


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="tk_… as `mudman token list` shows it.")],
    as_json: AsJson = False,
    url: Direct = None,
    state_dir: StateDir = None,
) -> None:
    """Revoke a token, for good and at once."""
    from service.cli import display

    with _keeper(url, state_dir) as keeper:
        gone = keeper.revoke_token(token_id)
    display.line(f"{gone['id']} of {gone['owner']} is revoked", gone, as_json)


def save() -> None:
    """Keep a token for this user's commands: typed, or from stdin. In a file that nobody else can read."""
    from service import credentials

    value = (getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not value:
        raise typer.BadParameter("there is no token on stdin", param_hint="stdin")
    typer.echo(f"kept in {credentials.save(value)}")


def audit(
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    token_id: Annotated[str | None, typer.Option("--token-id", help="Only of this token.")] = None,
    status: Annotated[int | None, typer.Option(help="Only with this outcome, such as 403.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show who changed what, and who was refused, newest first; for admins."""
    from service.cli import display

    with connect(url) as client:
        found = client.audit(owner=owner, token_id=token_id, status=status, limit=limit)
    columns = ("at", "owner", "token_id", "address", "method", "path", "status", "detail")
    rows = [{name: _short(one[name]) for name in columns} for one in found]
    display.rows(found if as_json else rows, as_json)


def _short(value: Any) -> Any:
    is_time = isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T"
    return value[:19].replace("T", " ") if is_time else value


def _keeper(url: str | None, state_dir: Path | None) -> "Client | _Database":
    return connect(url) if url or os.environ.get("MUDMAN_URL") else _Database(state_dir)


class _Database:
    """As the client's calls of these names, on the database itself: the first token has to come from somewhere."""

    def __init__(self, state_dir: Path | None):
        from service.installation import database_url
        from service.store.database import Database
        from service.store.settings import Settings

        self._database = Database(database_url(Settings(state_dir=state_dir)), pool_size=1, application="mudman-token")

    def __enter__(self) -> "_Database":
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def create_token(self, *, value: str | None = None, **wanted: Any) -> dict[str, Any]:
        from mudman.specs import parse_as
        from service import access_views as views
        from service.bodies import NewToken
        from service.store import tokens

        checked = parse_as(NewToken, wanted)
        text = value or tokens.new_text()
        with self._database.begin() as session:
            made = tokens.create(session, value=text, **checked.model_dump())
            self._note(session, "token create", made)
        view = views.token_view(made) if value else views.new_token_view(made, text)
        return view.model_dump(mode="json")

    def tokens(self, owner: str | None) -> list[dict[str, Any]]:
        from service import access_views as views
        from service.store import tokens

        with self._database.begin() as session:
            return [views.token_view(one).model_dump(mode="json") for one in tokens.every(session, owner)]

    def revoke_token(self, token_id: str) -> dict[str, Any]:
        from service import access_views as views
        from service.store import tokens

        with self._database.begin() as session:
            gone = tokens.revoke(session, token_id)
            self._note(session, "token revoke", gone)
        return views.token_view(gone).model_dump(mode="json")

    def _note(self, session: Any, what: str, made: Any) -> None:
        from service.store import audit

        said = f"{what}: {made.scope} for {made.owner}, by user {os.geteuid()} of this machine"
        audit.record(
            session, address="local", method="CLI", path=f"/tokens/{made.id}", status=200, detail=said, token_id=None
        )
