"""The `ddl` command: one small file a command."""
