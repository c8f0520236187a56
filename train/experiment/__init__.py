"""Run all recipes with one command, and skip the steps that are done."""
