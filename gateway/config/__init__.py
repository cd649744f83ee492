"""The settings tree: a TOML file plus ``GATEWAY_...`` environment, validated before a socket is opened."""

from gateway.config.loading import InvalidSettings, load, variable, variables_set
from gateway.config.settings import Settings

__all__ = ["InvalidSettings", "Settings", "load", "variable", "variables_set"]
