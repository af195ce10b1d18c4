"""The engine and the workspace for programs that run on asyncio.

They are the engine and the workspace themselves, whose calls run in threads, so that they are the same calls with the same
answers. A task that is cancelled cancels its statement at the server, or stores nothing of its ingest or fetch, and ends only
when that has been done.
"""

from merganser.asyncio.storage import AsyncRelation, AsyncStorageEngine
from merganser.asyncio.workspace import AsyncWorkspace

__all__ = ["AsyncRelation", "AsyncStorageEngine", "AsyncWorkspace"]
