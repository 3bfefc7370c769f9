"""The report's style sheet; nothing in it names another file."""

STYLE = """
:root { --paper: #fff; --panel: #f5f6f8; --line: #dfe2e7; --ink: #1b1f26; --soft: #5d6673;
  --accent: #1769c2; --accent-soft: #bcd7f3; --level: #b5480f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --panel: #1d2128; --line: #333a45;
  --ink: #e8eaee; --soft: #9aa4b2; --accent: #62a8f2; --accent-soft: #274a70; --level: #f09a5b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 56px; }
h1 { margin: 0; font-size: 34px; line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 0 0 12px; font-size: 18px; letter-spacing: -0.01em; }
section { margin-top: 40px; }
.kicker { margin: 0 0 4px; color: var(--accent); font-weight: 600; font-size: 13px; }
.lead { margin: 6px 0 16px; color: var(--soft); font-size: 17px; }
.note, .under { color: var(--soft); font-size: 13px; margin: 8px 0 0; }
.under { margin: 4px 0 0; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.command { margin: 0; padding: 10px 14px; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; }
.command span { color: var(--soft); user-select: none; }
.overview { display: grid; grid-template-columns: minmax(260px, 340px) 1fr; gap: 24px;
  margin-top: 28px; }
.overview video { display: block; width: 100%; border-radius: 10px; border: 1px solid var(--line); }
.cards { margin: 0; display: grid; gap: 12px; align-content: stretch;
  grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; display: flex; flex-direction: column; justify-content: center; }
.card dt { color: var(--soft); font-size: 13px; }
.card dd { margin: 2px 0 0; font-size: 28px; font-weight: 650; letter-spacing: -0.02em; }
.card small { font-size: 15px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.scroll { overflow-x: auto; margin: 0 -4px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; font-weight: 400; }
.views { min-width: 760px; table-layout: fixed; }
.views th { color: var(--soft); font-size: 13px; font-weight: 600; padding: 0 4px 6px; }
.views td { padding: 0 4px 14px; }
.views img { display: block; width: 100%; border-radius: 6px; border: 1px solid var(--line); }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; font-size: 13px;
  margin-top: 4px; }
.legend span { color: var(--soft); flex: 0 0 470px; max-width: 100%; }
.legend b { font-weight: 500; }
.legend i { width: 200px; height: 12px; border-radius: 3px; border: 1px solid var(--line); }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 32px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
svg .level { stroke: var(--level); stroke-dasharray: 5 4; stroke-width: 1.5; }
svg .level-label { fill: var(--level); font-weight: 600; }
.bars { font-size: 13px; }
.bars th { padding: 1px 10px 1px 0; white-space: nowrap; width: 1%; }
.bars td { padding: 1px 0 1px 12px; text-align: right; width: 1%; white-space: nowrap; }
.bars td:nth-child(2) { width: auto; padding: 0; vertical-align: middle; }
.bars thead { color: var(--soft); }
.bars i { display: block; height: 10px; background: var(--accent-soft); border-radius: 0 3px 3px 0;
  border-right: 3px solid var(--accent); }
.details { display: grid; gap: 32px; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); }
.facts { font-size: 13px; }
.facts th { color: var(--soft); padding: 4px 12px 4px 0; white-space: nowrap; width: 1%; }
.facts td { padding: 4px 0; overflow-wrap: anywhere; }
.facts tr + tr { border-top: 1px solid var(--line); }
footer { margin-top: 40px; padding-top: 16px; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 13px; }
@media (max-width: 820px) { .overview, .charts { grid-template-columns: 1fr; } }
@media print { main { max-width: none; padding: 0; } tr, .card { break-inside: avoid; } }
"""
