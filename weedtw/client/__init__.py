"""The public async client: assign, look up, upload, read, delete."""
