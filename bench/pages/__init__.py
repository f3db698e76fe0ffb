"""Write boards and comparisons as Markdown and pictures, without torch."""
