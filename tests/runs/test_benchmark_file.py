import pytest

from deep_delta.errors import DataError
from deep_delta.runs.benchmark import Benchmark
from tests.benchmarks.conftest import benchmark, row

NAME = "operator/a/forward"


def test_what_was_saved_is_read(tmp_path):
    saved = benchmark(row(NAME, tokens=10, flops=100, bytes_moved=50))
    (tmp_path / "b.json").write_text(saved.to_json())
    found = Benchmark.read(tmp_path / "b.json")
    assert found == saved
    assert found.by_name[NAME].tokens_per_second == 10
    assert (found.rows[0].flops_per_second, found.rows[0].bytes_per_second) == (100, 50)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-20], "b.json: "),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "format_version"),
        (lambda text: text.replace('"median": 1.0', '"median": NaN'), "NaN"),
        (lambda text: text.replace('"date"', '"data"'), "unknown field 'data'|date is required"),
        (lambda text: "", "b.json: "),
    ],
    ids=["cut", "version", "nan", "field", "empty"],
)
def test_a_damaged_file_is_one_line(damage, says, tmp_path):
    (tmp_path / "b.json").write_text(damage(benchmark(row(NAME)).to_json()))
    with pytest.raises(DataError, match=says) as caught:
        Benchmark.read(tmp_path / "b.json")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_never_opened(tmp_path):
    with pytest.raises(DataError, match="there is no benchmark"):
        Benchmark.read(tmp_path / "missing.json")
    with pytest.raises(DataError, match="there is no benchmark"):
        Benchmark.read(tmp_path)
