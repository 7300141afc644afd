"""Look at attention: move a query over a picture and see what every head reads there."""

from mqa_lib.explorer.view import Explorer, show

__all__ = ["Explorer", "show"]
