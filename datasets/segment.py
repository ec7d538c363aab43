"""Segments of the journal: labels and failures as bytes with checksums.

A segment is a sequence of records::

    magic b"CJR1" | payload length, u64 | CRC-32 of the payload, u32 | CRC-32 of the 16 bytes before, u32 | payload

and a payload, all little-endian::

    length of the JSON text, u32 | JSON text | numbers (n,) i4 | positions (n, 3) f8 | cell (3, 3) f8
    and for a label: | forces (n, 3) f8 | stress (6,) f8, if there is one

A writer that is killed leaves at most one torn record at the end of a segment, which is passed over; a bad record with
whole ones after it is corruption and is reported.
"""

import json
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.notice import Notice

_MAGIC = b"CJR1"
_HEAD = struct.Struct("<4sQI")
_HEAD_BYTES = _HEAD.size + 4
_LENGTH = struct.Struct("<I")


class JournalDamagedError(ValueError):
    """A record in the middle of a segment does not match its checksum."""


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A frame whose label could not be calculated: kept in quarantine, never trained on.

    Attributes
    ----------
    frame
        The frame.
    theory
        Key of the level of theory.
    reason
        ``scf``, ``walltime``, ``memory``, ``crash``, ``parse``, ``nonfinite``, ``geometry`` or
        ``input``.
    message
        What the labeller said.
    provenance
        Where the frame comes from.
    """

    frame: Frame
    theory: str
    reason: str
    message: str
    provenance: Provenance


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One record of the journal.

    Attributes
    ----------
    content
        The label, or the failure to get one.
    theory
        Level of theory in full, with versions, if it was given.
    token
        Token of the driver that published it.
    time
        When, ISO 8601, UTC.
    """

    content: Record | Failure
    theory: Theory | None
    token: int
    time: str


def label_key(content: Record | Failure) -> tuple[str, str]:
    """Frame hash and theory key: what makes two labels the same."""
    return content.frame.hash, content.theory if isinstance(content, Failure) else content.label.theory


def encode(entry: Entry) -> bytes:
    """Bytes of one record, to be appended to a segment."""
    content, frame = entry.content, entry.content.frame
    meta: dict[str, Any] = {
        "kind": "failure" if isinstance(content, Failure) else "label",
        "hash": frame.hash,
        "n_atoms": len(frame),
        "pbc": frame.pbc.tolist(),
        "charge": frame.charge,
        "multiplicity": frame.multiplicity,
        "provenance": asdict(content.provenance),
        "theory_key": label_key(content)[1],
        "theory": None if entry.theory is None else _theory_as_dict(entry.theory),
        "token": entry.token,
        "time": entry.time,
    }
    arrays = [frame.numbers.astype("<i4"), frame.positions, frame.cell]
    if isinstance(content, Failure):
        meta |= {"reason": content.reason, "message": content.message}
    else:
        label = content.label
        meta |= {"energy": label.energy, "cpu_s": label.cpu_s, "has_stress": label.stress is not None}
        meta |= {"remedy": label.remedy} if label.remedy else {}
        arrays += [label.forces] if label.stress is None else [label.forces, label.stress]
    text = json.dumps(meta).encode()
    parts = [array if array.dtype == "<i4" else array.astype("<f8") for array in arrays]
    payload = b"".join([_LENGTH.pack(len(text)), text, *(part.tobytes() for part in parts)])
    head = _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload))
    return head + _LENGTH.pack(zlib.crc32(head)) + payload


def read_segment(path: Path) -> Iterator[Entry]:
    """Whole records of a segment.

    Raises
    ------
    JournalDamagedError
        If a record that is not the last one is corrupt; the text names segment and offset.
    """
    for offset, payload in _payloads(path):
        try:
            yield _decode(payload)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise _damaged(path, offset, str(error)) from error


def _theory_as_dict(theory: Theory) -> dict[str, Any]:
    mappings = {name: dict(getattr(theory, name)) for name in ("settings", "hashes", "versions")}
    details = {"details": dict(theory.details)} if theory.details else {}
    return {"method": theory.method, "code": theory.code, **mappings, **details}


def _decode(payload: bytes) -> Entry:
    (n_text,) = _LENGTH.unpack_from(payload)
    meta = json.loads(payload[_LENGTH.size : _LENGTH.size + n_text])
    position = _LENGTH.size + n_text

    def array(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
        nonlocal position
        values = np.frombuffer(payload, dtype, int(np.prod(shape)), position).reshape(shape)
        position += values.nbytes
        return values

    n_atoms = meta["n_atoms"]
    numbers, positions, cell = array("<i4", n_atoms), array("<f8", n_atoms, 3), array("<f8", 3, 3)
    frame = Frame(numbers, positions, cell, meta["pbc"], meta["charge"], meta["multiplicity"])
    if frame.hash != meta["hash"]:
        raise ValueError("the frame does not have the hash it was published with")
    provenance = Provenance(**meta["provenance"])
    content: Record | Failure
    if meta["kind"] == "failure":
        content = Failure(frame, meta["theory_key"], meta["reason"], meta["message"], provenance)
    else:
        forces = array("<f8", n_atoms, 3)
        stress = array("<f8", 6) if meta["has_stress"] else None
        label = Label(meta["energy"], forces, stress, meta["theory_key"], meta["cpu_s"], meta.get("remedy", ""))
        content = Record(frame, label, provenance)
    theory = None if meta["theory"] is None else Theory(**meta["theory"])
    return Entry(content, theory, meta["token"], meta["time"])


def _payloads(segment: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and payload of every whole record of a segment."""
    with segment.open("rb") as file:
        offset = 0
        while head := file.read(_HEAD_BYTES):
            payload = b""
            if (length := _payload_length(head)) is not None:
                payload = file.read(length)
            if length is None or len(payload) < length or zlib.crc32(payload) != _HEAD.unpack_from(head)[2]:
                file.seek(offset + 1)
                if _holds_record(file.read()):
                    raise _damaged(segment, offset, "it does not match its checksum")
                if length is not None and len(payload) == length:
                    warnings.warn(
                        f"{segment}: the last record is whole but corrupt and was passed over", Notice, stacklevel=2
                    )
                return
            yield offset, payload
            offset = file.tell()


def _payload_length(head: bytes) -> int | None:
    if len(head) < _HEAD_BYTES or _LENGTH.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
        return None
    magic, length, _ = _HEAD.unpack_from(head)
    return int(length) if magic == _MAGIC else None


def _holds_record(data: bytes) -> bool:
    start = data.find(_MAGIC)
    while start >= 0:
        if _payload_length(data[start : start + _HEAD_BYTES]) is not None:
            return True
        start = data.find(_MAGIC, start + 1)
    return False


def _damaged(segment: Path, offset: int, reason: str) -> JournalDamagedError:
    return JournalDamagedError(
        f"{segment}: the record at byte {offset} is corrupt ({reason}); restore the file from a backup, "
        "or move it away to lose the labels in it"
    )
