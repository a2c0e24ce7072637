"""A small hub on loopback: what huggingface_hub and datasets ask of the real one to load a model or a data set."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubFault(Exception):
    def __init__(self, status: int, code: str, message: str = ""):
        self.status, self.code, self.message = status, code, message or code


@dataclass
class Hub:
    """Serves ``repositories``: ("models" | "datasets", "org/name") -> folder. ``main`` and ``COMMIT`` are revisions."""

    repositories: dict[tuple[str, str], Path]
    gated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Repositories whose every request is answered with 500."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def folder(self, kind: str, name: str, revision: str) -> Path:
        if (kind, name) not in self.repositories:
            raise HubFault(401, "RepoNotFound", "Repository not found")
        if name in self.broken:
            raise HubFault(500, "Broken")
        if revision not in ("main", COMMIT):
            raise HubFault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.repositories[kind, name]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        try:
            if path[0] == "api":
                self._send(200, self._answer(path[1:], body), {"Content-Type": "application/json"})
            else:
                self._file(path)
        except HubFault as fault:
            self._send(fault.status, b"", {"X-Error-Code": fault.code, "X-Error-Message": fault.message})

    def _answer(self, path: list[str], body: bytes) -> bytes:
        match path:
            case [kind, owner, name, *rest] if rest[:1] in ([], ["revision"]):
                folder = self.hub.folder(kind, f"{owner}/{name}", rest[1] if rest else "main")
                files = [{"rfilename": file} for file in _files(folder)]
                gated = "manual" if f"{owner}/{name}" in self.hub.gated else False
                answer = {"id": f"{owner}/{name}", "sha": COMMIT, "private": False, "gated": gated, "siblings": files,
                          "tags": []}  # fmt: skip
            case [kind, owner, name, "tree", revision, *below]:
                folder = self.hub.folder(kind, f"{owner}/{name}", revision).joinpath(*below)
                if not folder.is_dir():
                    raise HubFault(404, "EntryNotFound")
                recursive = parse_qs(urlsplit(self.path).query).get("recursive") == ["true"]
                answer = _entries(self.hub.folder(kind, f"{owner}/{name}", revision), folder, recursive)
            case [kind, owner, name, "paths-info", revision]:
                folder = self.hub.folder(kind, f"{owner}/{name}", revision)
                wanted = json.loads(body)["paths"]
                answer = [entry for entry in _entries(folder, folder, True) if entry["path"] in wanted]
            case _:
                raise HubFault(404, "NotServed")
        return json.dumps(answer).encode()

    def _file(self, path: list[str]) -> None:
        kind, path = ("datasets", path[1:]) if path[0] == "datasets" else ("models", path)
        owner, name, resolve, revision, *rest = path
        folder = self.hub.folder(kind, f"{owner}/{name}", revision)
        if f"{owner}/{name}" in self.hub.gated:
            raise HubFault(403, "GatedRepo", "Access to this repository is restricted")
        if resolve != "resolve" or "/".join(rest) not in _files(folder):
            raise HubFault(404, "EntryNotFound")
        content = folder.joinpath(*rest).read_bytes()
        self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _entries(root: Path, folder: Path, recursive: bool) -> list[dict]:
    entries = []
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        place = {"path": str(path.relative_to(root)), "oid": _oid(str(path).encode()), "size": 0}
        if path.is_dir():
            entries.append({"type": "directory", **place})
        else:
            content = path.read_bytes()
            entries.append({"type": "file", **place, "size": len(content), "oid": _oid(content)})
    return entries


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
