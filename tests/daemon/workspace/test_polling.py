"""Which mounts send no events, and how often they are walked."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegraphd.daemon.workspace.polling import is_caseless, mounts_of, poll_interval, read_mounts, silent_file_system

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:40 / /home/me/remote rw,nosuid - fuse.sshfs host:/x rw
31 22 0:41 / /mnt/nfs\\040share rw - nfs4 server:/export rw
32 22 0:42 / /home/me/stick rw - fuseblk /dev/sdb1 rw
33 22 0:43 / /srv/over rw - nfs server:/old rw
34 33 254:1 / /srv/over rw - ext4 /dev/sdc1 rw
35 22 0:44 / /data/vm/shared rw - virtiofs tag rw
a line that is none
"""


@pytest.mark.parametrize(
    ("root", "expect"),
    [
        ("/home/me/code", None),
        ("/home/me/remote", "fuse.sshfs"),
        ("/home/me/remote/deep", "fuse.sshfs"),
        ("/home/me/remote2", None),
        ("/mnt/nfs share/x", "nfs4"),
        ("/home/me/stick", None),
        ("/srv/over/x", None),  # mounted over
        ("/data/vm", "virtiofs"),  # below the root
        ("/", "fuse.sshfs"),
    ],
)
def test_fault_18_file_systems_that_send_no_events(root: str, expect: str | None) -> None:
    assert silent_file_system(mounts_of(root, MOUNTS)) == expect


def test_the_mounts_of_this_machine_are_understood(tmp_path: Path) -> None:
    assert " - " in read_mounts()
    (holder, *_) = mounts_of(str(tmp_path), read_mounts())
    assert str(tmp_path).startswith(holder.place)
    assert silent_file_system(mounts_of(str(tmp_path), read_mounts())) is None


def test_mounts_elsewhere_do_not_matter() -> None:
    before = mounts_of("/home/me", MOUNTS)
    assert (
        mounts_of("/home/me", MOUNTS + "36 22 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n")
        == before
    )
    assert mounts_of("/home/me", MOUNTS + "36 22 0:50 / /home/me/usb rw - vfat /dev/sdd1 rw\n") != before
    assert mounts_of("/home/me", MOUNTS + "36 22 0:50 / /home rw - ext4 /dev/sdd1 rw\n") != before


def test_polling_takes_a_small_share_of_a_core() -> None:
    assert poll_interval(0.001, 0) == 2.0
    assert poll_interval(0.16, 0) == pytest.approx(8)
    assert poll_interval(0.16, 1000) == pytest.approx(16)
    assert poll_interval(100, 0) == 60.0


def test_this_file_system_tells_upper_from_lower_case(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    assert not is_caseless(str(tmp_path / "name"))
    assert not is_caseless("/")
    (tmp_path / "NAME").symlink_to("name")
    assert not is_caseless(str(tmp_path / "name"))
