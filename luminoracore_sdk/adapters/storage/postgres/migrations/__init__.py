"""The versions of the tables, one module each, in alembic's form.

A module is never changed once it was released; the next change is the next module. Its ``upgrade`` gets alembic's
operations and the tables as arguments instead of using alembic's global ``op``: an application may be running
its own migrations in another thread.
"""
