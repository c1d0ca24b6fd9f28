"""The engine on a directory of JSON lines. ARCHITECTURE.md says how it works."""
