"""Curves, intervals, gaps, figures and the report, from tracked runs alone: no training, no Ray."""
