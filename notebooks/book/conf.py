"""How Sphinx makes the course's pages; `notebooks/book/site.py` calls it.

Nothing here may name another host: the pages have to open from a disk without a network.
"""

from notebooks.book import site

project = site.TITLE
language = "en"
extensions = ["myst_nb", "notebooks.book.formulas"]
smartquotes = False  # what is typed is what is shown: a quotation mark may be code

nb_execution_mode = "off"  # the notebooks come with their outputs
nb_render_markdown_format = "myst"  # printed tables hold formulas too
nb_code_prompt_show = "Set-up, the same in every notebook"
nb_code_prompt_hide = nb_code_prompt_show
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default would ask two hosts for scripts
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

templates_path = [str(site.HERE / "templates")]
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = [str(site.HERE / "static")]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_sidebars = {"**": ["course.html"]}
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_extra_path = [site.EXTRA]
html_context = {"default_mode": "auto"}  # light or dark as the system, until the reader chooses
html_theme_options = {
    "logo": {"text": "Mobile MQA"},  # the whole title leaves no room for the search on a telephone
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "search_bar_text": "Search the course",
    "search_as_you_type": True,
    "article_header_start": [],
    "primary_sidebar_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
}
