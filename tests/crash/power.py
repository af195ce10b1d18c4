"""What a disk may hold after a power loss, from what the shim wrote down.

The bytes of a write are certain to be on the disk once a sync of its file that began after it has ended. Until then each 4 KiB
page of it may be there or not, whatever came before or after. Names (creation, unlink, rename) reach the disk in their order,
and those made before any sync of these files with it, as file systems with a journal do; later ones up to some point.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

RECORD = struct.Struct("<IiqQQ")
PAGE = 4096
O_TRUNC = 0o1000
# How the pages that were not synced fare.
FATES = ["lost", "kept", "torn", "first"]


@dataclass
class Record:
    kind: str
    fd: int
    offset: int
    length: int
    payload: bytes
    # Where it ends in the log.
    end: int


@dataclass
class Inode:
    """A file: what is on the disk, and what was done to it since: (offset, bytes), or (size, None) for a truncation."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    size: int = 0
    # How much of `pending` is older than each sync that runs.
    syncs: list[int] = field(default_factory=list)


def records(log: Path) -> list[Record]:
    """The log's records; a last one that was cut off by the kill is left out."""
    found, data, at = [], log.read_bytes(), 0
    while at + RECORD.size <= len(data):
        kind, fd, offset, length, size = RECORD.unpack_from(data, at)
        at += RECORD.size
        if at + size > len(data):
            break
        payload = data[at : at + size]
        at += size
        found.append(Record(chr(kind), fd, offset, length, payload, at))
    return found


def apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


class Disk:
    """The disk under one database, from `base` (name to content; all of it durable) through the log's records."""

    def __init__(self, base: dict[str, bytes]) -> None:
        self.names = {name: Inode(bytearray(content), size=len(content)) for name, content in base.items()}
        self.durable_names = dict(self.names)
        # Changes of names that no sync has followed yet: (name, what it means now).
        self.renames: list[tuple[str, Inode | None]] = []
        self.renames_synced: list[tuple[int, int]] = []
        self.open: dict[int, Inode] = {}
        self.name_syncs: dict[int, list[int]] = {}

    def take(self, record: Record) -> None:
        handler = {"O": self._open, "w": self._write, "t": self._truncate, "s": self._sync_begin, "S": self._sync_end}
        if record.kind in handler:
            handler[record.kind](record)
        elif record.kind == "C":
            self.open.pop(record.fd, None)
        elif record.kind == "u":
            self._name(record.payload.decode(), None)
        elif record.kind == "r":
            source, target = (name.decode() for name in record.payload.split(b"\0"))
            inode = self.names.get(source)
            self._name(target, inode)
            self._name(source, None)
        else:
            raise AssertionError(f"the log has a call that is not understood: {record.payload!r}")

    def _name(self, name: str, inode: Inode | None) -> None:
        self.renames.append((name, inode))
        if inode is None:
            self.names.pop(name, None)
        else:
            self.names[name] = inode

    def _open(self, record: Record) -> None:
        name = record.payload.decode()
        if name not in self.names:
            self._name(name, Inode())
        inode = self.names[name]
        self.open[record.fd] = inode
        if record.offset & O_TRUNC and inode.size:
            inode.pending.append((0, None))
            inode.size = 0

    def _write(self, record: Record) -> None:
        inode = self.open[record.fd]
        offset = inode.size if record.offset < 0 else record.offset
        inode.pending.append((offset, record.payload))
        inode.size = max(inode.size, offset + record.length)

    def _truncate(self, record: Record) -> None:
        inode = self.open[record.fd]
        inode.pending.append((record.offset, None))
        inode.size = record.offset

    def _sync_begin(self, record: Record) -> None:
        inode = self.open[record.fd]
        inode.syncs.append(len(inode.pending))
        self.name_syncs.setdefault(record.fd, []).append(len(self.renames))

    def _sync_end(self, record: Record) -> None:
        inode = self.open[record.fd]
        done = inode.syncs.pop(0)
        for offset, data in inode.pending[:done]:
            apply(inode.durable, offset, data)
        del inode.pending[:done]
        inode.syncs = [max(0, mark - done) for mark in inode.syncs]
        self._names_reach_the_disk(self.name_syncs[record.fd].pop(0))

    def _names_reach_the_disk(self, count: int) -> None:
        for name, inode in self.renames[:count]:
            if inode is None:
                self.durable_names.pop(name, None)
            else:
                self.durable_names[name] = inode
        del self.renames[:count]
        for marks in self.name_syncs.values():
            marks[:] = [max(0, mark - count) for mark in marks]

    def after_power_loss(self, chance: random.Random, fate: str) -> dict[str, bytes]:
        """One of the states that the disk may be in; the `Disk` is not to be used after it."""
        lost_names = {"lost": 0, "kept": len(self.renames)}.get(fate, chance.randint(0, len(self.renames)))
        self._names_reach_the_disk(lost_names)
        return {name: self._content(inode, chance, fate) for name, inode in self.durable_names.items()}

    @staticmethod
    def _content(inode: Inode, chance: random.Random, fate: str) -> bytes:
        content = bytearray(inode.durable)
        first = chance.randint(0, len(inode.pending)) if fate == "first" else len(inode.pending)
        for offset, data in inode.pending[:first]:
            if fate == "lost" or (data is None and fate == "torn" and chance.random() < 0.5):
                continue
            if data is None or fate in ("kept", "first"):
                apply(content, offset, data)
                continue
            start = offset
            while start < offset + len(data):
                end = min((start // PAGE + 1) * PAGE, offset + len(data))
                if chance.random() < 0.5:
                    apply(content, start, data[start - offset : end - offset])
                start = end
        return bytes(content)


def unsynced_names(disk: Disk) -> list[str]:
    """The files that have writes which no sync has followed."""
    return [name for name, inode in disk.names.items() if any(data is not None for _, data in inode.pending)]
