"""What kind of file system a database lies on: across a network SQLite's write-ahead log does not work."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    [
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fhgfs",
        "fuse.beegfs",
        "fuse.ceph",
        "fuse.ceph-fuse",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.goofys",
        "fuse.juicefs",
        "fuse.mount-s3",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "prl_fs",
        "pvfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
        "wekafs",
    ]
)
"""File systems that several machines may have mounted, as Linux names them."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Place:
    """The file system that a path lies on; empty where the system does not tell."""

    kind: str = ""
    mount: str = ""
    read_only: bool = False

    @property
    def network(self) -> bool:
        """Whether other machines may have it too."""
        return self.kind in NETWORK

    @property
    def locks_alone(self) -> bool:
        """Whether a lock here is not seen by other machines, as with most of what FUSE mounts."""
        return self.network and self.kind.startswith("fuse.")


def place_of(path: Path) -> Place:
    """Where a path lies that is there or will be."""
    try:
        text = MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # no Linux
        return Place()
    return find(text, os.path.realpath(path))


def find(mountinfo: str, path: str) -> Place:
    """The longest mount point above an absolute path, in the words of /proc/self/mountinfo; of equal ones the last."""
    found = Place()
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        mount = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        above = path == mount or path.startswith(mount.rstrip("/") + "/")
        if above and len(mount) >= len(found.mount):
            read_only = "ro" in (*fields[5].split(","), *rest[2].split(","))
            found = Place(rest[0], mount, read_only)
    return found
