"""A PgBouncer in front of the tests' server."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection


@contextmanager
def pgbouncer(program: str, folder: Path, mode: str = "transaction") -> Iterator[int]:
    """PgBouncer in front of the tests' server: yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    known = connection.settings_dict
    host = known["OPTIONS"].get("host") or known["HOST"]
    (folder / "users.txt").write_text(f'"{known["USER"]}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{known['NAME']} = host={host} user={known['USER']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\npool_mode = {mode}\n"
    )
    is_root = os.geteuid() == 0
    if is_root:  # pytest's folders are private, and a user without privileges reads from here
        for each in (folder, *folder.parents):
            if each.stat().st_uid == 0 and not each.stat().st_mode & stat.S_IXOTH:
                each.chmod(0o755)
    process = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")],
        stderr=subprocess.PIPE,
        text=True,
        user="postgres" if is_root else None,
    )
    assert process.stderr is not None
    try:
        assert any("process up" in line for line in process.stderr), "It did not start."
        yield port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
