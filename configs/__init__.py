"""The YAML files of every choice, shipped in the wheel as `vidattr.configs`."""
