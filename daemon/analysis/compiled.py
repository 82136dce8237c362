"""The compiled module `_scan`, as everyone imports it."""

from __future__ import annotations

try:
    from codegraphd.daemon.analysis import _scan as scan
except ImportError as error:
    message = f"the compiled part of codegraphd's analysis cannot be loaded ({error}); in a checkout: run make setup"
    raise ImportError(message) from None

__all__ = ["scan"]
