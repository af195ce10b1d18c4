"""The random users and commands of permissions.py, some hundreds of them: the server allows what the model allows."""

import permissions


def test_the_server_allows_what_the_model_allows(tmp_path):
    counts = permissions.run(tmp_path, 400, seed=5)
    assert min(counts.values()) > 100, counts


def test_the_model():
    may = permissions.allowed
    write, read = [("write", "a1")], [("read", "a1")]
    assert may("admin", [("read", "b*")], write) and not may("reader", [], write) and may("writer", [], write)
    assert may("reader", [("write", "A?")], read) and not may("writer", [("read", "a*")], write)
    assert not may("writer", [("write", "b*")], read) and may("writer", [("write", "b*")], [("own",)])
    assert may("reader", [], [("catalog",)]) and not may("reader", [("read", "*")], [("catalog",)])
    assert not may("writer", [], [("administer",)])
