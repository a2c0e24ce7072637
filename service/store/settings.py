"""Settings of every process: one typed object.

Order: flag > environment (``MUDMAN_<FIELD>``) > ``mudman.toml`` in the current folder > ``mudman.toml`` in the state
folder > default. ``origins`` says where each value came from.
"""

import difflib
import json
import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from mudman.artifacts import location
from mudman.faults import MudmanError

PREFIX = "MUDMAN_"
FILE = "mudman.toml"


class SettingsError(MudmanError):
    """A setting that is missing or wrong; the message names it, its origin and the remedy."""


def default_state_dir() -> Path:
    """Where the embedded system keeps its data; root's is a place that ``nobody``, who runs its Postgres, can reach."""
    if os.geteuid() == 0:
        return Path("/var/lib/mudman")
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mudman"
    except RuntimeError:
        raise SettingsError(
            "this user has no home folder to keep state in. Remedy: set MUDMAN_STATE_DIR to a folder that it may write"
        ) from None


_Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


_LONGEST = 36_500
"""Days, a century: a number that Postgres can still count back from today."""


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number: leave it out where there is no limit")
    return value


_LIMIT = BeforeValidator(_finite)


class Quota(BaseModel):
    """Most that the trials of one owner hold at once; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[float | None, _LIMIT] = Field(None, ge=0)
    gpus: Annotated[float | None, _LIMIT] = Field(None, ge=0)
    trials: Annotated[int | None, _LIMIT] = Field(None, ge=0)


EVERYBODY = "*"
"""Owner whose quota holds for all that have none of their own."""


class Settings(BaseSettings):
    """Keyword arguments are flags; one that is ``None`` counts as not given. Raises ``SettingsError``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    database_url: SecretStr | None = None
    """Postgres, as postgresql://user:password@host:port/database. ``database_url_file`` is safer."""
    database_url_file: _Folder | None = None
    """File that holds the database URL, readable by its owner only; read if ``database_url`` is not set."""
    data_root: _Folder = Field(default_factory=Path.cwd)
    """Folder below which lie all folders that a spec may name."""
    state_dir: _Folder = Field(default_factory=default_state_dir)
    """Data folder of the embedded Postgres, ``endpoint.json`` and logs."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8080, ge=0, le=65535)
    """Port that the API listens on; 0: any free one."""
    access: Literal["off", "tokens"] = "off"
    """Whether each request needs a token. ``off`` only where the API listens on loopback."""
    hosts: list[str] = Field([], examples=[["sweeps.example.org"]])
    """Names by which requests may call the API, beside those of loopback; empty, with tokens: any."""
    requests_per_minute: int = Field(1200, ge=0)
    """That one token, or one address without, may send to one API process; a sixth of it at once. 0: any number. This
    and the next three hold with tokens only."""
    failures_per_minute: int = Field(60, ge=0)
    """Requests without a good token from one address that are told so; more are not looked at. 0: any number."""
    max_requests: int = Field(32, ge=1)
    """Requests of one token or address that are answered at once by one API process."""
    max_streams: int = Field(32, ge=1)
    """Event streams of one token or address that are open at once at one API process."""
    token: SecretStr | None = None
    """What the command line and the client show to the API. A file is safer."""
    token_file: _Folder | None = None
    """File that holds it, readable by its owner only; default: ``mudman/token`` in the user's configuration folder."""
    lease_renewal: FiniteFloat = Field(5.0, gt=0)
    """Seconds between two renewals of a lease."""
    lease_expiry: FiniteFloat = Field(20.0, gt=0)
    """Seconds after which a lease that nobody renewed may be claimed by another."""
    dispatcher_poll: FiniteFloat = Field(1.0, gt=0)
    """Seconds between two looks for work."""
    ray_address: str = "auto"
    """Address of the Ray head that runners attach to; ``auto``: the one on this machine."""
    resource_grace: FiniteFloat = Field(60.0, ge=0)
    """Seconds that a study waits for a node that is large enough for its trials; then it fails, unless such a node was
    there within a day."""
    preparation_seconds: FiniteFloat = Field(3600.0, gt=0)
    start_seconds: FiniteFloat = Field(300.0, gt=0)
    """Seconds that the preparation of one study may take, once it has begun; then the study fails."""
    owner_weights: dict[str, Annotated[FiniteFloat, Field(gt=0)]] = Field({}, examples=[{"some owner": 2}])
    """Shares of the cluster that owners have beside each other, by name; 1 for those that are not named."""
    owner_quotas: dict[str, Quota] = Field({}, examples=[{"some owner": {"gpus": 1.5}}])
    """``{cpus, gpus, trials}`` that an owner's trials may hold at once, by name; ``*``: of each one not named."""
    dashboard_trials: int = Field(20_000, ge=0)
    """Trials of the largest study that Optuna's dashboard shows: it reads all of them into the API's memory."""
    artifacts: Annotated[str | None, AfterValidator(location)] = None
    """Where checkpoints are kept: a folder that API, dispatcher and nodes share, or ``s3://bucket/prefix`` (with the
    usual ``AWS_…`` variables). None: nowhere; the embedded system has a folder in its state folder."""
    checkpoint_days: int = Field(0, ge=0, le=_LONGEST)
    """Days that checkpoints are kept; 0: for ever."""
    max_body_bytes: int = Field(1_000_000, ge=1)
    """Longest request body that the API reads."""
    log_days: int = Field(90, ge=0, le=_LONGEST)
    """Days that logs of trials are kept; 0: for ever. Numbers and curves are kept for ever."""
    event_days: int = Field(365, ge=0, le=_LONGEST)
    """Days that events are kept; 0: for ever."""
    audit_days: int = Field(365, ge=0, le=_LONGEST)
    """Days that audit events are kept; 0: for ever."""
    idempotency_days: int = Field(30, ge=0, le=_LONGEST)
    """Days that idempotency keys are remembered; 0: for ever."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = "INFO"
    """Least urgent lines that are logged."""
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or objects for programs."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **flags: Any):
        flags = {name: value for name, value in flags.items() if value is not None}
        layers = _Layers(flags)
        try:
            super().__init__(_layers=layers, **flags)
        except ValidationError as error:
            raise SettingsError(_explained(error, layers)) from None
        except UnreadableSetting as error:
            name, field = next(one for one in type(self).model_fields.items() if f'"{one[0]}"' in str(error))
            raise SettingsError(
                f"{PREFIX}{name.upper()} is not valid JSON. Remedy: write it as, for example, "
                f"{json.dumps(field.examples[0])}"
            ) from None
        self._origins = {name: layers.origin(name) for name in type(self).model_fields}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        layers = init_settings.init_kwargs.pop("_layers")
        return init_settings, env_settings, *((lambda values=values: values) for _, values in layers.files)

    @model_validator(mode="after")
    def _lease_outlives_a_missed_renewal(self) -> "Settings":
        if self.lease_expiry < 2 * self.lease_renewal:
            raise ValueError(
                f"lease_expiry ({self.lease_expiry:g} s) must be at least twice lease_renewal "
                f"({self.lease_renewal:g} s), or one late renewal loses the lease"
            )
        return self

    def origins(self) -> dict[str, str]:
        """Where each value came from: ``flag``, ``environment MUDMAN_X``, ``file /path``, or ``default``."""
        return dict(self._origins)

    @property
    def dispatcher_lives(self) -> float:
        """Seconds after which a dispatcher that was not seen counts as gone."""
        return max(10.0, 5 * self.dispatcher_poll)

    def weight(self, owner: str) -> float:
        return self.owner_weights.get(owner, 1.0)

    def quota(self, owner: str) -> Quota:
        return self.owner_quotas.get(owner) or self.owner_quotas.get(EVERYBODY) or Quota()

    def read_database_url(self) -> str:
        """The database URL, from the setting or its file. Raises ``SettingsError`` where there is none.

        The file's mode is not checked: container engines mount secrets with modes of their own.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if self.database_url_file is None:
            raise SettingsError(
                "no database is configured. Remedy: set MUDMAN_DATABASE_URL_FILE to a file that holds "
                "postgresql://user:password@host:port/database; or run `mudman up`, which brings its own"
            )
        try:
            url = self.database_url_file.read_text("utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"cannot read the database URL: {error.strerror}: {self.database_url_file} "
                f"(from {self._origins['database_url_file']}). Remedy: correct the path or its permissions"
            ) from None
        if not url:
            raise SettingsError(f"{self.database_url_file} is empty. Remedy: write the database URL into it")
        return url


class _Layers:
    """The layers below pydantic's validation, kept to tell each value's origin."""

    def __init__(self, flags: dict[str, Any]):
        self.flags = flags
        # The state folder may itself come from the current folder's file, so that file is read first.
        here = Path.cwd() / FILE
        self.files = [(here, _read(here))]
        state_dir = flags.get("state_dir") or _environment("state_dir") or self.files[0][1].get("state_dir")
        there = Path(state_dir or default_state_dir()).expanduser() / FILE
        if there.absolute() != here:
            self.files.append((there, _read(there)))

    def origin(self, name: str) -> str:
        if name in self.flags:
            return "flag"
        if _environment(name):
            return f"environment {PREFIX}{name.upper()}"
        return next((f"file {path}" for path, values in self.files if name in values), "default")


def _environment(name: str) -> str | None:
    """pydantic-settings reads names without regard to case; so does this."""
    return next((value for key, value in os.environ.items() if key.upper() == f"{PREFIX}{name.upper()}"), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}. Remedy: correct its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}. Remedy: correct that line") from None
    for name in values:
        if name not in Settings.model_fields:
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(Settings.model_fields)}"
            raise SettingsError(f"{path}: there is no setting {name!r}. Remedy: {remedy}")
    return values


def _explained(error: ValidationError, layers: _Layers) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        path = ".".join(map(str, detail["loc"]))
        name = path.partition(".")[0]
        message = detail["msg"].removeprefix("Value error, ")
        where = f"setting {path} (from {layers.origin(name)}): " if name else "settings: "
        secret = "url" in name or "token" in name
        given = f"; given: {str(detail['input'])[:80]!r}" if name and not secret else ""
        lines.append(f"{where}{message[:1].lower()}{message[1:]}{given}")
    return "\n".join(lines)
