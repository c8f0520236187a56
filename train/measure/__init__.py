"""Evaluation: metrics with intervals, reports, tables and the model card."""
