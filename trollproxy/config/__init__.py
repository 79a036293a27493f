"""The configuration: read, checked, and turned into records. Start at loading.py."""

from trollproxy.config.catalog import Catalog, build_catalog
from trollproxy.config.loading import load, pick_path
from trollproxy.config.settings import Settings
from trollproxy.config.text import ConfigError

__all__ = ["Catalog", "ConfigError", "Settings", "build_catalog", "load", "pick_path"]
