"""What pages are made of: their style, their script, their templates (Jinja2, with autoescape).

The script replaces the middle of the page by what the server says then.  It never lets an old page pass for a new
one: the age stands on top, and from STALE milliseconds on the page fades and says why.
"""

STYLE = """
:root { --ink: #1b2626; --dim: #5d6d6c; --line: #dbe3e2; --paper: #f7f9f9; --card: #fff; --accent: #0a6e63;
        --good: #14724d; --warn: #8a5a00; --bad: #b3261e; --good-bg: #e2f3ea; --warn-bg: #fbeed3; --bad-bg: #fbe3e1;
        --dim-bg: #e9eeee; --bar: #3a9d8f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dce6e5; --dim: #93a5a3; --line: #2a3736; --paper: #0f1515; --card: #161e1e; --accent: #62cabc;
          --good: #7fd8a9; --warn: #f0c15c; --bad: #ff9a91; --good-bg: #143325;
          --warn-bg: #3a2c0e; --bad-bg: #451d1b; --dim-bg: #222c2c; --bar: #3d8f84 }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; max-width: 84rem; padding: 1rem 1.25rem 2rem; background: var(--paper); color: var(--ink);
       font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .75rem; margin-bottom: .75rem }
h1 { margin: 0; font-size: 1.2rem; font-weight: 650 }
h2 { margin: 0 0 .4rem; font-size: .8rem; font-weight: 650; color: var(--dim); letter-spacing: .04em;
     text-transform: uppercase }
header p, footer { color: var(--dim); margin: 0 }
header .address { font-weight: 550; color: var(--ink) }
#live { margin-left: auto; font-variant-numeric: tabular-nums }
footer { margin-top: 1.25rem; font-size: .85rem }
a { color: var(--accent); text-decoration: none } a:hover, a:focus { text-decoration: underline }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .85rem;
          margin-top: .75rem }
.none { color: var(--dim); margin: 0 }
.notice { margin: .5rem 0 0; padding: .55rem .85rem; border-radius: .5rem; border-left: .3rem solid; font-weight: 550;
          overflow-wrap: anywhere }
.good { color: var(--good); background: var(--good-bg) } .warn { color: var(--warn); background: var(--warn-bg) }
.bad { color: var(--bad); background: var(--bad-bg) } .dim { color: var(--dim); background: var(--dim-bg) }
.mark { display: inline-block; padding: 0 .4rem; border-radius: .6rem; font-size: .86em; font-weight: 550;
        margin: .05rem .2rem .05rem 0; white-space: nowrap }
.cells a { display: inline-block; margin-right: .7rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th:last-child, td:last-child { padding-right: 0 }
tbody tr:last-child > * { border-bottom: 0 }
thead th { color: var(--dim); font-weight: 500; white-space: nowrap; font-size: .86em; vertical-align: bottom }
td { overflow-wrap: anywhere; min-width: 3rem } .list td { white-space: nowrap }
.list td.long, .list td:has(.cells) { white-space: normal; min-width: 14rem }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1.8rem }
.number:first-child { text-align: left }
.meter { display: block; min-width: 8rem; font-variant-numeric: tabular-nums; white-space: nowrap }
.meter i { display: block; height: .3rem; border-radius: .15rem; background: var(--dim-bg); overflow: hidden;
           margin-top: .15rem }
.meter b { display: block; height: 100%; background: var(--bar) }
.meter b.warn { background: var(--warn) } .meter b.bad { background: var(--bad) }
.facts tbody { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .5rem 1.4rem }
.facts tr { display: flex; flex-direction: column }
.facts th, .facts td { border: 0; padding: 0; text-align: left; min-width: 0 }
.facts th { color: var(--dim); font-weight: 500; font-size: .86em }
.facts td { white-space: normal; font-weight: 550 } .facts tr:last-child { grid-column: span 2 }
.facts .meter { min-width: 0; white-space: normal }
#stale { position: sticky; top: 0; z-index: 1; box-shadow: 0 .2rem .6rem #0004 }
body.stale main { opacity: .5 }
@media (max-width: 44rem) {
  body { padding: .75rem .6rem 1.5rem }
  section { padding: .6rem .65rem }
  #live { width: 100%; margin: 0 }
  .facts tbody { grid-template-columns: 1fr 1fr }
  .list thead { display: none }
  .list tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .3rem 1rem;
             padding: .55rem 0; border-bottom: 1px solid var(--line) }
  .list tbody tr:last-child { border-bottom: 0 }
  .list td, .list td.long, .list td:has(.cells) { display: block; border: 0; padding: 0; min-width: 0;
             text-align: left; white-space: normal }
  .meter { min-width: 0; white-space: normal }
  .list td:first-child { font-weight: 600 }
  .list td::before { content: attr(data-name); display: block; color: var(--dim); font-weight: 400; font-size: .82em }
  .list td.long, .list td:has(.cells) { grid-column: 1 / -1 }
  .list td.void { display: none }
}
"""

SCRIPT = """
(() => {
  "use strict";
  const EVERY = 1000, HIDDEN = 10000, PATIENCE = 2500, STALE = 4000;
  const main = document.querySelector("main"), live = document.getElementById("live");
  const stale = document.getElementById("stale"), title = document.title;
  let fresh = performance.now(), trouble = "", timer = 0;

  function show(text) {
    const scrolled = [...main.querySelectorAll(".wide")].map(each => each.scrollLeft);
    main.innerHTML = text;
    [...main.querySelectorAll(".wide")].forEach((each, at) => { each.scrollLeft = scrolled[at] || 0; });
  }
  function tell() {
    const age = performance.now() - fresh, old = age > STALE;
    const level = old ? "bad" : (main.firstElementChild || main).dataset.level;
    const seconds = (age / 1000).toFixed(age < 9950 ? 1 : 0);
    live.textContent = (old ? "NOT LIVE" : "live") + " \\u00b7 " + seconds + " s old";
    document.body.classList.toggle("stale", old);
    stale.hidden = !old;
    if (old) stale.textContent = "This is how things were " + Math.round(age / 1000) + " s ago: " +
      (trouble || "waiting for " + location.host) + ". Trying again.";
    document.title = (level === "bad" ? "\\u26a0 " : "") + title;
  }
  async function poll() {
    clearTimeout(timer);
    const asked = performance.now(), stop = new AbortController(), limit = setTimeout(() => stop.abort(), PATIENCE);
    try {
      const wish = {signal: stop.signal, cache: "no-store", headers: {Accept: "text/html"}};
      const answer = await fetch(location.pathname + "?part=live", wish);
      const text = await answer.text();
      if (!answer.ok) throw new Error(location.host + " answers with status " + answer.status);
      if (getSelection().isCollapsed) { show(text); fresh = asked; trouble = ""; }
      else trouble = "it stands still while text is selected";
    } catch (error) {
      trouble = error.name === "AbortError" || error instanceof TypeError ? location.host + " does not answer"
                                                                          : error.message;
    }
    clearTimeout(limit);
    tell();
    timer = setTimeout(poll, document.hidden ? HIDDEN : EVERY);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  setInterval(tell, 250);
  timer = setTimeout(poll, EVERY);
})();
"""

WHOLE = (
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<title>{{ page.title }}{% if page.subtitle %} · {{ page.subtitle }}{% endif %}</title>
<link rel="icon" href="/favicon.ico">
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<header>
<h1>{{ page.title }}</h1>{% if page.subtitle %}<p class="address">{{ page.subtitle }}</p>{% endif %}
<p id="live" role="status">as of {{ page.as_of }}</p>
</header>
<p id="stale" class="notice bad" role="alert" hidden></p>
<main>
{% include "middle" %}
</main>
<footer>weedtw {{ version }}</footer>
<script type="text/javascript">{{ script|safe }}</script>
</body>
</html>
"""
)

MIDDLE = """{% from "cells" import cell_of %}
<div data-level="{{ page.level }}" data-as-of="{{ page.as_of }}">
{% for part in page.parts %}
{% if part.kind == "notice" %}
<p class="notice {{ part.level }}">{{ part.text }}</p>
{% else %}
<section>
<h2>{{ part.heading }}</h2>
{% if part.kind == "facts" %}
<table class="facts"><tbody>
{% for name, cell in part.rows %}
<tr><th scope="row">{{ name }}</th>{{ cell_of(cell, "") }}</tr>
{% endfor %}
</tbody></table>
{% elif part.rows %}
<div class="wide"><table class="list">
<thead><tr>
{%- for column in part.columns %}
<th scope="col"{% if part.rows[0][loop.index0] is number %} class="number"{% endif %}>{{ column }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{% for row in part.rows %}
<tr>{% for cell in row %}{{ cell_of(cell, part.columns[loop.index0]) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="none">{{ part.empty }}</p>
{% endif %}
</section>
{% endif %}
{% endfor %}
</div>
"""

CELLS = """{% macro simple(cell) %}
{%- if cell.kind is not defined %}{{ cell }}
{%- elif cell.kind == "link" %}<a href="{{ cell.href }}">{{ cell.text }}</a>
{%- elif cell.kind == "mark" %}
<span class="mark {{ cell.level }}"{% if cell.about %} title="{{ cell.about }}"{% endif %}>{{ cell.text }}</span>
{%- else %}
<span class="meter">{{ cell.text }}<i><b class="{{ cell.level }}" style="width:{{ cell.percent }}%"></b></i></span>
{%- endif %}{% endmacro %}
{% macro cell_of(cell, name) %}
{%- if cell is boolean %}<td data-name="{{ name }}">{{ "yes" if cell else "no" }}</td>
{%- elif cell is number %}<td class="number" data-name="{{ name }}">{{ cell }}</td>
{%- elif cell is string %}
<td class="{{ "void" if not cell else "long" if cell|length > 30 else "" }}" data-name="{{ name }}">{{ cell }}</td>
{%- elif cell.kind is defined %}<td data-name="{{ name }}">{{ simple(cell) }}</td>
{%- else %}<td data-name="{{ name }}"{% if not cell %} class="void"{% endif %}><span class="cells">
{%- for each in cell %}{{ simple(each) }}{% endfor %}</span></td>
{%- endif %}{% endmacro %}
"""
