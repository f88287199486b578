"""From stored maps to scores, tables and plots."""
