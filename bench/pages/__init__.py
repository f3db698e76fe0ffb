"""Statements become Markdown and pictures. No torch."""
