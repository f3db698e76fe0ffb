"""Numbers to pages: results, boards, plots, progress. No torch."""
