"""Curves, intervals, gaps, figures and the report: reads tracked runs, never trains, knows nothing of Ray."""
