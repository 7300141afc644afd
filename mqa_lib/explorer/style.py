"""How the exported page looks: light and dark, wide and narrow, with nothing fetched from anywhere."""

from mqa_lib import plots

_STYLE = """
:root{--paper:#fff;--ink:#1b1b1b;--quiet:#4a4a4a;--line:#c9c9c9;--box:#f3f3ee;--link:#0b57a4}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#ececec;--quiet:#bdbdbd;--line:#4a4d52;--box:#22252a;
--link:#8ec5ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.3rem;margin:2rem 0 .5rem}
h3{font-size:1.1rem;margin:2rem 0 .5rem}
p{max-width:48rem;margin:.5rem 0}
a{color:var(--link)}
.real,.small,figcaption,footer{color:var(--quiet);font-size:.875rem}
.caveat{background:var(--box);border-left:4px solid #e69f00;padding:.25rem 1rem .5rem;max-width:50rem}
.caveat h2{font-size:1.05rem;margin:.5rem 0}
figure{margin:0;min-width:0}
.top{display:flex;flex-wrap:wrap;gap:0 2rem;align-items:flex-start}
.photo{flex:1 1 20rem;max-width:34rem;margin:1rem 0}
.top .scroll{flex:0 1 auto}
.heads{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,14rem),1fr));margin:1rem 0}
.map{position:relative;overflow:hidden;aspect-ratio:var(--ratio);isolation:isolate;background:#000}
.map::before{content:"";position:absolute;inset:0;z-index:-1;background-image:var(--photo);
background-size:var(--size,100% 100%);background-position:var(--position,0 0);background-repeat:no-repeat;
image-rendering:var(--rendering);filter:grayscale(1) brightness(.55);print-color-adjust:exact}
.plain::before{filter:brightness(.75)}
.clear::before{filter:none}
.map img{position:absolute;inset:0;width:100%;height:100%;image-rendering:var(--rendering)}
.map .heat{inset:auto;image-rendering:pixelated}
.map svg{position:absolute;inset:0;width:100%;height:100%}
.query{position:absolute;border:2px solid #fff;outline:2px solid #000;box-shadow:inset 0 0 0 1px #000;
min-width:8px;min-height:8px}
.badge{position:absolute;background:#e69f00;color:#000;font:bold .75rem/1.2 system-ui,sans-serif;padding:0 .3em}
rect{fill:none;vector-effect:non-scaling-stroke}
.shadow{stroke:#000;stroke-width:4px}
.box{stroke:#e69f00;stroke-width:2px}
.from{stroke:#fff;stroke-width:2px;stroke-dasharray:5 4}
circle,polygon{stroke:#000;stroke-width:1px;vector-effect:non-scaling-stroke;fill-opacity:.85}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;padding:0;margin:.5rem 0;font-size:.875rem}
.glyph{width:1rem;height:1rem;margin-right:.4rem;vertical-align:-.15rem;overflow:visible}
.glyph *{stroke-width:1px}
.scale{display:flex;align-items:center;gap:.5rem;max-width:28rem;font-size:.875rem}
.colours{position:relative;flex:1;height:1rem;border:1px solid var(--line);
background:linear-gradient(to right,COLOURS);forced-color-adjust:none;print-color-adjust:exact}
.alike{position:absolute;top:-4px;bottom:-4px;width:4px;margin-left:-2px;background:#fff;border:1px solid #000}
.scroll{overflow-x:auto;margin:1rem 0;max-width:100%}
.scroll:focus-visible,a:focus-visible{outline:3px solid #0072b2;outline-offset:2px}
table{border-collapse:collapse;font-size:.875rem}
caption{text-align:left;color:var(--quiet);padding-bottom:.25rem}
th,td{border-bottom:1px solid var(--line);padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top;
white-space:nowrap;font-variant-numeric:tabular-nums}
article+article{border-top:2px solid var(--line);margin-top:3rem}
summary{cursor:pointer;margin:2rem 0 .5rem}
footer{border-top:1px solid var(--line);margin-top:3rem}
@media (max-width:32rem){.heads{grid-template-columns:repeat(2,minmax(0,1fr));gap:.75rem}body{padding:.75rem}}
"""


def style() -> str:
    """Return the page's style sheet, with the colours of the scale of weights in it."""
    return _STYLE.replace("COLOURS", ",".join(plots.heat_colours()))
