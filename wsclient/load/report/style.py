"""The style sheet and the script of the page. The page is complete without either."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #1b1f24; --muted: #59636e; --line: #d9dde3; --grid: #e6e9ed;
  --axis: #aab2bc;
  --hover: rgba(27, 31, 36, .10); --good: #0b6b46; --good-card: #e3f4ec; --bad: #b3261e;
  --bad-card: #fdeceb;
  --warn: #7a4b00; --warn-card: #fff4dc; --warn-line: #e0a526;
  --c0: #0072b2; --c1: #d55e00; --c2: #008a64; --c3: #a8518a; --c4: #a87300; --c5: #6e7781;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --card: #181c22; --ink: #e8ebef; --muted: #9aa5b1; --line: #2d343d; --grid: #262c34;
    --axis: #4f5965;
    --hover: rgba(232, 235, 239, .14); --good: #5fd3a4; --good-card: #11281f; --bad: #ff8a80;
    --bad-card: #331716;
    --warn: #f5c265; --warn-card: #2c2310; --warn-line: #8a6414;
    --c0: #56b4e9; --c1: #ff8f4d; --c2: #2fc498; --c3: #dd8cc1; --c4: #e8b04a; --c5: #9aa5b1;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; overflow-wrap: anywhere; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "Liberation Sans", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
footer { padding-bottom: 32px; color: var(--muted); font-size: 13px; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 32px 0 12px; font-size: 18px; line-height: 1.3; }
.sub { margin: 4px 0 0; color: var(--muted); overflow-wrap: anywhere; }
.top { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; justify-content: space-between; }
.badge { display: inline-block; padding: 3px 12px; border-radius: 99px; font-weight: 600;
  white-space: nowrap;
  border: 1px solid currentColor; }
.good { color: var(--good); } .bad { color: var(--bad); } .plain { color: var(--muted); }
.badge.good { background: var(--good-card); } .badge.bad { background: var(--bad-card); }
.warnings { margin: 20px 0 0; padding: 12px 16px 12px 20px; border: 1px solid var(--warn-line);
  border-left-width: 5px;
  border-radius: 8px; background: var(--warn-card); overflow-wrap: anywhere; }
.warnings h2 { margin: 0; color: var(--warn); font-size: 15px; }
.warnings ul { margin: 4px 0 0; padding-left: 20px; }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px;
  margin: 20px 0 0; padding: 0; }
.tiles > div { padding: 12px 16px; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); }
.tiles dt { color: var(--muted); font-size: 13px; }
.tiles dd { margin: 0; }
.tiles .number { font-size: 26px; font-weight: 650; line-height: 1.25; letter-spacing: -.02em;
  overflow-wrap: anywhere; }
.tiles .note { color: var(--muted); font-size: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 16px; }
figure { margin: 0; min-width: 0; padding: 14px 22px 8px 68px; border: 1px solid var(--line);
  border-radius: 10px;
  background: var(--card); display: flex; flex-direction: column; break-inside: avoid; }
figcaption, .legend { margin: 0 0 4px -50px; }
.unit { color: var(--muted); font-size: 13px; }
.legend { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px;
  color: var(--muted); font-size: 13px; }
.legend li { overflow-wrap: anywhere; }
.legend svg { vertical-align: -1px; }
.plot { display: block; margin-top: auto; overflow: visible; }
.plot text { fill: var(--muted); font-variant-numeric: tabular-nums; }
.plot .grid { stroke: var(--grid); } .plot .axis { stroke: var(--axis); }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.hit:hover { fill: var(--hover); }
.tip { position: fixed; z-index: 1; max-width: 280px; padding: 6px 10px; border-radius: 6px;
  background: var(--ink);
  color: var(--page); font-size: 13px; line-height: 1.4; white-space: pre-line; pointer-events: none;
    overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 0 16px; align-items: start; }
.pair > section { min-width: 0; }
.card { border: 1px solid var(--line); border-radius: 10px; background: var(--card); overflow-x: auto; }
.narrow { max-width: 720px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { overflow-wrap: break-word; text-align: left; vertical-align: top; padding: 7px 14px;
  border-top: 1px solid var(--grid); }
thead th { color: var(--muted); font-size: 13px; font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 500; }
thead tr:first-child > *, table:not(:has(thead)) tr:first-child > * { border-top: 0; }
.n { text-align: right; white-space: nowrap; }
.n, .state { width: 1%; }
td.text { overflow-wrap: anywhere; min-width: 11em; }
thead ~ tbody td.text { width: 70%; }
.sum { display: inline-block; white-space: nowrap; }
.sum b { font-weight: 600; }
.state { white-space: nowrap; font-weight: 600; }
.small { color: var(--muted); font-size: 13px; }
p.small { margin: 8px 2px 0; }
details { margin-top: 32px; }
summary { cursor: pointer; font-size: 18px; font-weight: 650; }
details.words { margin-top: 10px; }
.words summary { color: var(--muted); font-size: 13px; font-weight: 400; }
details .card { margin-top: 12px; max-height: 70vh; overflow: auto; }
details thead th { position: sticky; top: 0; background: var(--card); }
@media (max-width: 560px) {
  main, header, footer { padding-left: 12px; padding-right: 12px; }
  figure { padding: 12px 14px 6px 58px; }
  figcaption, .legend { margin-left: -46px; }
  .wide { display: none; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .tiles .number { font-size: 20px; }
  th, td { padding: 6px 10px; }
  .stack thead { display: none; }
  .stack tr { display: flex; flex-wrap: wrap; gap: 0 12px; padding: 6px 10px; }
  .stack tr + tr { border-top: 1px solid var(--grid); }
  .stack th, .stack td { padding: 2px 0; border: 0; }
  .stack .n, .stack .state { width: auto; }
  .stack td.text { flex-basis: 100%; order: 1; }
  .stack [data-label]::before { content: attr(data-label) " "; color: var(--muted); }
}
@media print {
  :root { color-scheme: light; --page: #ffffff; }
  @page { margin: 14mm; }
  body { font-size: 12px; }
  main, header, footer { max-width: none; padding: 0; }
  .charts, .pair { grid-template-columns: 1fr 1fr; }
  section:not(.plots), .tiles, .warnings, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  details, .tip { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

# Without it, each column of a chart tells its numbers in a <title>, after a second of pointing.
SCRIPT = """
(() => {
  "use strict";
  const texts = new Map();
  for (const title of document.querySelectorAll(".hit > title")) {
    texts.set(title.parentNode, title.textContent);
    title.remove();
  }
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (event) => {
    const text = texts.get(event.target);
    tip.hidden = text === undefined;
    if (tip.hidden) return;
    tip.textContent = text;
    const column = event.target.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const right = column.right + 8;
    const left = right + tip.offsetWidth + 8 <= width ? right : column.left - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(left, width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 8)}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("pointermove", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);
})();
"""
