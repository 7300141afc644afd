"""Tests that run without the shape checker: refusals, compiling, exporting, notebooks, the browser."""
