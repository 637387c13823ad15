"""The check of generated stubs fails where it should."""

from __future__ import annotations

from tools.check_generated import differences
from tools.generate import REFERENCE, generated


def test_what_is_stale_is_named() -> None:
    fresh = {"same.py": b"1", "changed.py": b"2", "new.py": b"3"}
    committed = {"same.py": b"1", "changed.py": b"1", "gone.py": b"4"}
    assert differences(fresh, committed) == ["missing: new.py", "left over: gone.py", "differs: changed.py"]
    assert differences(committed, committed) == []


def test_every_proto_has_its_stubs() -> None:
    folder = REFERENCE.parent / "proto"
    protos = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.proto")]
    stubs = generated(REFERENCE)
    assert protos
    for proto in protos:
        assert f"{proto}_pb2.py" in stubs
        assert f"{proto}_pb2.pyi" in stubs
