"""Overrides and YAML files, options and their fields, building of plug-ins, run keys."""
