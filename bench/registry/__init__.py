"""Plugins: their references, the table of installed ones, their source files, and checks of their contract."""
