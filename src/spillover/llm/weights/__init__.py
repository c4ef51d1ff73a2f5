"""Where models come from and where they go: folders, hub ids, adapters, the built-in one."""
