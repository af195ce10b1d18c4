"""The stress of stress.py, for some seconds: no cross-talk between connections, and nothing left behind."""

from stress import stress


def test_many_connections(server):
    print(stress(server, 5))
