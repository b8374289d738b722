"""Every peer computes what this runtime does; one that is not there is named."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from din_infer.bench import kernel
from din_infer.bench.kernel import KernelCase
from din_infer.bench.peers.peer import Absent, AbsentPeerError, Peer
from din_infer.bench.timing import compare

SMALL = KernelCase(candidates=3, behaviours=5, dim=4, hidden=(6, 3))
OPTIONAL = {"openvino": "OpenVINO, folded", "deepctr_torch": "DeepCTR-Torch's DIN layer"}


@pytest.mark.parametrize("peer", kernel.PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("case", [SMALL, KernelCase(1, 1, dim=3, hidden=(5,))], ids=lambda case: case.name)
def test_peer_gives_the_same_outputs(peer: Peer, case: KernelCase) -> None:
    found, absent = kernel.competitors(case, threads=1, peers=[peer])
    if absent:
        pytest.skip(absent[0].reason)
    differences = compare(found, 1e-5, relative=True)
    assert differences[peer.name] < 1e-5
    assert found[-1].versus == kernel.OURS[peer.interaction]


def test_naive_peer_takes_candidates_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("din_infer.bench.peers.onnx_runtime.GROUP_BYTES", 1)
    found, _ = kernel.competitors(SMALL, threads=1, peers=[p for p in kernel.PEERS if "naive" in p.name])
    assert len(found) == 2
    compare(found, 1e-5, relative=True)


@pytest.mark.parametrize("module", OPTIONAL)
def test_missing_packages_are_named_with_what_installs_them(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    peers = [peer for peer in kernel.PEERS if peer.name == OPTIONAL[module]]
    found, absent = kernel.competitors(SMALL, threads=1, peers=peers)
    assert OPTIONAL[module] not in [competitor.name for competitor in found]
    assert [peer.name for peer in absent] == [OPTIONAL[module]]
    assert "pip install 'din_infer[peers]'" in absent[0].reason


def test_a_peer_that_cannot_run_is_named_with_its_reason() -> None:
    def fails(*arguments: Any) -> Any:
        raise AbsentPeerError("expected a C++ compiler, got none")

    found, absent = kernel.competitors(SMALL, threads=1, peers=[Peer("broken", "outer", fails)])
    assert [competitor.name for competitor in found] == ["din_infer"]
    assert absent == [Absent("broken", "expected a C++ compiler, got none")]


def test_a_failing_compiler_makes_torch_compile_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def broken(unit: Any, **options: Any) -> Any:
        def run(*tensors: Any) -> Any:
            raise RuntimeError("\nno compiler found\nand more")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    peers = [peer for peer in kernel.PEERS if "compile" in peer.name]
    _, absent = kernel.competitors(SMALL, threads=1, peers=peers)
    assert absent[0].reason.endswith("got no compiler found")
