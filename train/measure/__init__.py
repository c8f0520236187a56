"""Evaluation: metrics with intervals, reports, tables, the model card."""
