"""Names become plugins: references, the table of what is installed, their source and whether they keep the contract."""
