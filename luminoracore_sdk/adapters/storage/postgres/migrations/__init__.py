"""The layout of the PostgreSQL tables, version by version; alembic turns them into SQL.

A script is never changed once it was released; the next change is the next script. Each gets alembic's
operations and the place of the tables as arguments, instead of reaching for alembic's global ``op``: an
application may be running its own migrations in another thread.
"""
