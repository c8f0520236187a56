"""All recipes in one command, with the steps that are done already."""
