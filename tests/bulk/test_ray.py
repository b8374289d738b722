"""Ray scores the same, loses nothing when a worker is killed, and says what went wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from din_infer.bulk import Job, run
from din_infer.errors import MissingExtraError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_ray_scores_the_same_whatever_happens_to_workers(model_path, requests_table, items_table, tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    (tmp_path / "model.onnx").write_bytes(model_path.read_bytes())
    ages = requests_table["user.age"].to_numpy().copy()
    ages[[5, 33]] = float("nan")
    index = requests_table.column_names.index("user.age")
    pq.write_table(requests_table.set_column(index, "user.age", pa.array(ages)), tmp_path / "requests.parquet")
    pq.write_table(pa.concat_tables([items_table] * 100), tmp_path / "items.parquet")  # long enough to be killed in
    bad = requests_table.slice(0, 60).set_column(index, "user.age", pa.array([float("nan")] * 60))
    pq.write_table(bad, tmp_path / "bad.parquet")
    scenario = Path(__file__).with_name("ray_scenario.py")
    # Workers look for modules where the driver was started, and the checkout has no compiled core. Ray gives them what
    # processors have left, which on a busy machine is next to nothing.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    subprocess.run([sys.executable, scenario, tmp_path], cwd=tmp_path, env=environment, check=True, timeout=300)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["kills"] == 1
    assert results["killed"] == results["folder"] == {"requests": 198, "resumed": 0, "parts": 7, "threads": 1}
    assert results["resumed"] == {"requests": 198, "resumed": 139, "parts": 7, "threads": 1}
    assert results["error"][0] == "InputError"
    assert "bad.parquet: row " in results["error"][1]
    assert "user.age: expected finite float32 numbers" in results["error"][1]
    assert results["dying"][0] == "OutputError"
    assert results["dying"][1].startswith("ray: expected workers that live to the end of a part, got: The actor")
    job = Job(str(tmp_path / "model.onnx"), str(tmp_path / "items.parquet"), on_error="reject")
    run(job, [str(tmp_path / "requests.parquet")], tmp_path / "here.parquet")
    assert pq.read_table(tmp_path / "killed").equals(pq.read_table(tmp_path / "here.parquet"))
    assert pq.read_table(tmp_path / "killed/_rejects").equals(pq.read_table(tmp_path / "here.rejects.parquet"))
    assert not list((tmp_path / "killed").glob(".*"))
    assert pq.read_table(tmp_path / "folder").equals(pq.read_table(tmp_path / "here.parquet"))


def test_without_ray_the_extra_is_named(monkeypatch, model_path, requests_path, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'din_infer\[ray\]'"):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "out.parquet", engine="ray")
    assert not (tmp_path / "out.parquet.parts").exists()
