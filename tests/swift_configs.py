"""The configuration files of `swift_server.SwiftServer`: plain text, no Swift import."""

from __future__ import annotations

from pathlib import Path

KINDS = ("account", "container", "object", "proxy")
REGION = "us-east-1"
USERS = {"owner": ("test:tester", "secret-of-the-owner-7c1e"), "guest": ("test:guest", "guesting")}
"""Access key and secret key of each user; both belong to the account `test`."""

_DEFAULTS = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
# In this one process: fewer processes, and none that outlives its parent.
workers = 0
max_clients = 1024
# A full disk is the user's business; Swift would refuse writes below 1 % of free space.
fallocate_reserve = 0
disable_fallocate = true
log_level = WARNING
# To the discard port: the log of each process is its stderr, the system's log is left alone.
log_udp_host = 127.0.0.1
log_udp_port = 9
# A loaded machine is slow, not broken: no time-outs that would lose a listing entry.
conn_timeout = 20
node_timeout = 120
client_timeout = 120
container_update_timeout = 120
"""

_STORAGE = """
[pipeline:main]
pipeline = healthcheck {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
conn_timeout = 20
node_timeout = 120
container_update_timeout = 120

[filter:healthcheck]
use = egg:swift#healthcheck
"""

_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 20
node_timeout = 120
recoverable_node_timeout = 120
client_timeout = 120

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:gatekeeper]
use = egg:swift#gatekeeper

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:cache]
paste.filter_factory = swift_cache:filter_factory

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = {region}
# Parts of multipart uploads may be small: tests need no 5 MiB a part.
min_segment_size = 1

[filter:tempauth]
use = egg:swift#tempauth
{users}

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo
minimum_segment_size = 1
"""

_SWIFT = """\
[swift-hash]
swift_hash_path_prefix = mgc
swift_hash_path_suffix = tests

[storage-policy:0]
name = one
default = yes
"""


def configuration_files(folder: Path, ports: dict[str, int], user: str) -> dict[str, str]:
    """Return file name → text of `swift.conf` and of one file a server.

    Parameters
    ----------
    folder
        Where rings, devices and these files lie.
    ports
        Port of each of `KINDS`.
    user
        System user that the servers run as: the one who starts them.
    """
    files = {"swift.conf": _SWIFT}
    for kind in KINDS:
        body = _PROXY.format(region=REGION, users=_users()) if kind == "proxy" else _STORAGE.format(kind=kind)
        files[f"{kind}.conf"] = _DEFAULTS.format(port=ports[kind], user=user, folder=folder) + body
    return files


def _users() -> str:
    lines = []
    for role, (access_key, secret_key) in USERS.items():
        rights = " .admin" if role == "owner" else ""
        lines.append(f"user_{access_key.replace(':', '_')} = {secret_key}{rights}")
    return "\n".join(lines)
