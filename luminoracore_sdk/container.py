"""The dependency-injection container.

Apart from ``luminoracore_sdk.session``, because ``dependency_injector`` imports FastAPI where that is
installed: 0.2 s that only who uses the container should pay (dependency-injector 4.49, measured).
"""

from luminoracore_sdk.bootstrap.container import Container, make_container, running

__all__ = ["Container", "make_container", "running"]
