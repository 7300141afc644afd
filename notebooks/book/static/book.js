// Search shows the words around a hit by fetching the page they stand on, which browsers refuse for pages on a disk.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
