"""``StorageEngine``: tables of events and profiles on a server, of one's own or a running one."""
