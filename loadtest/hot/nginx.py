"""nginx with a configuration of our own, apart from that of the system."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from . import processes
from .processes import Failed

CONFIGURATION = """
daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-bodies;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    {http}
}}
"""


def start(
    stack: ExitStack, folder: Path, port: int, http: str, workers: str = "auto"
) -> processes.Process:
    """Starts it with this content of the http block, and waits until it listens on the port."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("nginx", path=path)
    if not program:
        raise Failed("nginx is not installed: scripts/setup nginx")
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, http=http, workers=workers))
    errors = folder / "nginx-errors.log"
    command = [program, "-p", folder, "-e", errors, "-c", configuration]
    log = folder / "nginx.log"
    process = processes.start(stack, "nginx", command, log, processes.bare_environment())
    process.wait_until(lambda: processes.accepts(port), seconds=10)
    return process
