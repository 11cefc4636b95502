"""How a page looks (light and dark, wide and narrow, on paper), and the little script that filters lists."""

from __future__ import annotations

import base64

ICON_DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="9" fill="#155eef"/>'
    '<path d="M16 6a8 8 0 0 0-8 8c0 6 8 12 8 12s8-6 8-12a8 8 0 0 0-8-8z" fill="#fff"/>'
    '<circle cx="16" cy="14" r="3.2" fill="#155eef"/></svg>'
)
"""A pin on blue."""
ICON = "data:image/svg+xml;base64," + base64.b64encode(ICON_DRAWING.encode()).decode()

STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#14181f;--soft:#566072;--line:#e2e6ec;--fill:#eef1f5;--blue:#155eef;
--blue-soft:#e8effe;--good:#0a7a5c;--good-soft:#e0f4ec;--bad:#b93815;--bad-soft:#fdece4;--mid:#8a5a00;
--mid-soft:#fdf3da;--dim:#d69a00;--map:#aeb7c6;--shadow:0 1px 2px #101a2b12,0 4px 16px #101a2b0a;--r:14px}
@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171b22;--ink:#eceff4;--soft:#a0aaba;
--line:#2a303a;
--fill:#212730;--blue:#7ba7ff;--blue-soft:#1b2944;--good:#4fd0a4;--good-soft:#12332a;--bad:#ff9068;
--bad-soft:#3d2018;--mid:#f0c15a;--mid-soft:#372b11;--dim:#f0c15a;--map:#5c677b;--shadow:0 1px 2px #0006}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.bar,.hero,main,footer{max-width:1180px;margin:0 auto;padding-left:24px;padding-right:24px}
.bar{display:flex;align-items:center;gap:8px 28px;flex-wrap:wrap;padding-top:20px;padding-bottom:12px}
.brand{font-weight:700;letter-spacing:-.01em;display:flex;align-items:center;gap:9px}
.brand i{width:14px;height:14px;border-radius:50% 50% 50% 3px;background:var(--blue);transform:rotate(-45deg)}
nav{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:14px}
nav a{color:var(--soft);text-decoration:none;padding:4px 0}
nav a:hover{color:var(--blue);text-decoration:underline}
a{color:var(--blue)}
a:focus-visible,button:focus-visible,input:focus-visible,summary:focus-visible{outline:2px solid var(--blue);
outline-offset:2px}
.skip{position:absolute;left:-999px}
.skip:focus{left:24px;top:8px;background:var(--card);padding:6px 12px;z-index:2}
.hero{padding-top:22px;padding-bottom:6px}
h1{font-size:clamp(28px,4.4vw,42px);line-height:1.15;letter-spacing:-.025em;margin:0 0 10px;text-wrap:balance;
overflow-wrap:anywhere}
.hero p{font-size:18px;color:var(--soft);max-width:68ch;margin:0 0 20px}
.hero p b{color:var(--ink);font-weight:600}
h2{font-size:24px;letter-spacing:-.015em;line-height:1.25;margin:0 0 6px}
h3{font-size:16px;margin:0 0 10px}
.lead{color:var(--soft);max-width:75ch;margin:0 0 18px}
section{padding:30px 0 6px;scroll-margin-top:8px}
footer{padding-top:36px;padding-bottom:44px;color:var(--soft);font-size:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:var(--r);box-shadow:var(--shadow);
padding:20px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:6px 0 0;
padding:0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:var(--r);padding:14px 18px 12px;
box-shadow:var(--shadow)}
.tiles dd{margin:0;font-size:30px;font-weight:650;letter-spacing:-.02em;line-height:1.2;
font-variant-numeric:tabular-nums}
.tiles dt{color:var(--soft);font-size:14px}
.tiles div{display:flex;flex-direction:column-reverse;justify-content:flex-end}
.tiles .main{background:var(--blue-soft);border-color:transparent}
.tiles .main dd{color:var(--blue)}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:16px;align-items:start}
.even{grid-template-columns:repeat(2,minmax(0,1fr))}
@media(max-width:860px){.pair{grid-template-columns:minmax(0,1fr)}}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{text-align:left;padding:8px 12px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:500;font-size:13px}
tbody th{font-weight:500;color:var(--soft)}
td{overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.num td,.num thead th:not(:first-child){text-align:right;padding-right:0;padding-left:12px}
code,pre{font:13.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
td code{font-size:13px}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
.grid{stroke:var(--line);fill:none}
.curve{stroke:var(--blue);stroke-width:2.5;fill:none;stroke-linejoin:round;stroke-linecap:round}
.area{fill:var(--blue);opacity:.09}
.knot{fill:var(--card);stroke:var(--blue);stroke-width:2.5}
svg .value{fill:var(--ink);font-weight:600}
.m-db{stroke:var(--map);stroke-width:6;stroke-linecap:round;fill:none}
.m-good{fill:var(--good)}.m-bad{fill:var(--bad)}.m-none{fill:var(--dim)}.m-ask{fill:var(--blue)}
path.m-good,path.m-bad,path.m-none,path.m-ask{stroke-width:8;stroke-linecap:round;fill:none}
path.m-good{stroke:var(--good)}path.m-bad{stroke:var(--bad)}path.m-none{stroke:var(--dim)}
path.m-ask{stroke:var(--blue)}
circle.pin{stroke:var(--card);stroke-width:1.5}
a:hover circle.pin,a:focus circle.pin{stroke:var(--ink);stroke-width:2.5}
path.m-db.few{stroke-width:9}
.m-line{stroke:var(--bad);stroke-width:1.1;opacity:.5;fill:none}
.m-rule{stroke:var(--ink);stroke-width:2;fill:none}
.m-north{fill:var(--ink)}
.key{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:14px;color:var(--soft);margin:14px 0 0;padding:0;
list-style:none}
.key li{display:flex;align-items:center;gap:7px}
.key i{width:10px;height:10px;border-radius:50%;background:var(--map)}
.key .k-good{background:var(--good)}.key .k-bad{background:var(--bad)}.key .k-none{background:var(--dim)}
.key .k-ask{background:var(--blue)}.key .k-line{border-radius:0;height:2px;width:18px;background:var(--bad);
opacity:.6}
.tools{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:0 0 16px}
.tools[hidden]{display:none}
.tools button{font:inherit;font-size:14px;border:1px solid var(--line);background:var(--card);
color:var(--ink);
border-radius:99px;padding:5px 14px;cursor:pointer}
.tools button:hover{border-color:var(--blue)}
.tools button[aria-pressed=true]{background:var(--ink);border-color:var(--ink);color:var(--bg)}
.tools input{font:inherit;font-size:14px;border:1px solid var(--line);background:var(--card);color:var(--ink);
border-radius:99px;padding:5px 16px;min-width:0;width:220px;margin-left:auto}
@media(max-width:600px){.tools input{margin-left:0;width:100%}}
.found{font-size:14px;color:var(--soft)}
.cards{display:grid;gap:16px}
.ask{display:grid;grid-template-columns:minmax(200px,1fr) minmax(0,3fr);gap:20px;scroll-margin-top:12px;
content-visibility:auto;contain-intrinsic-size:auto 320px}
.ask[hidden]{display:none}
.ask:target{border-color:var(--blue);box-shadow:0 0 0 3px var(--blue-soft)}
@media(max-width:760px){.ask{grid-template-columns:minmax(0,1fr);gap:14px}}
.name{font-weight:600;overflow-wrap:anywhere;line-height:1.35;margin:10px 0 0;font-size:15px}
.note{color:var(--soft);font-size:14px;margin:2px 0 0;overflow-wrap:anywhere}
.head{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;margin:0 0 12px}
.head .note{margin:0}
.chip{display:inline-block;font-size:13.5px;font-weight:600;border-radius:99px;padding:3px 12px;
background:var(--fill);color:var(--soft)}
.chip.good{background:var(--good-soft);color:var(--good)}
.chip.bad{background:var(--bad-soft);color:var(--bad)}
.chip.none{background:var(--mid-soft);color:var(--mid)}
.answers{display:grid;grid-template-columns:repeat(auto-fill,minmax(138px,1fr));gap:12px;margin:0;padding:0;
list-style:none}
.answers li{min-width:0;font-size:13px;line-height:1.4;color:var(--soft)}
.answers .who{color:var(--ink);overflow-wrap:anywhere;display:-webkit-box;-webkit-line-clamp:2;
-webkit-box-orient:vertical;overflow:hidden}
.frame{position:relative;border-radius:9px;overflow:hidden;margin-bottom:6px}
.good>.frame{outline:3px solid var(--good)}
.missed>.frame{outline:3px dashed var(--good);outline-offset:-1px}
.tag{position:absolute;left:6px;top:6px;background:#10141cd9;color:#fff;font-size:12px;font-weight:600;
border-radius:99px;padding:1px 9px}
.good .tag{background:#0a7a5c}
.shot{border-radius:9px;background:var(--fill) center/cover no-repeat;width:100%;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
.shot.none{aspect-ratio:1.5;display:grid;place-items:center;color:var(--soft);font-size:13px}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:10px}
.sure{max-width:440px;margin:0 0 14px;font-size:14px;color:var(--soft)}
.sure svg{margin-top:5px}
.s-back{fill:var(--fill)}.s-good{fill:var(--good)}.s-none{fill:var(--mid)}
.s-tick{stroke:var(--ink);stroke-width:1.5;opacity:.55}
.mono{font-variant-numeric:tabular-nums;color:var(--ink);font-weight:600}
.gap{margin-top:20px}
.round{border-radius:7px;height:14px}
.o-good{fill:var(--good)}.o-later{fill:var(--blue)}.o-bad{fill:var(--bad)}.o-none{fill:var(--dim)}
.key .k-later{background:var(--blue)}
.key.down{flex-direction:column}
.key b{color:var(--ink);font-variant-numeric:tabular-nums}
.key i{flex:none}
.twins{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,500px),1fr));gap:16px}
.twins>*{min-width:0;content-visibility:auto;contain-intrinsic-size:auto 330px}
.twins>[hidden]{display:none}
.twin{overflow:visible}
.twin .shot{aspect-ratio:auto;height:300px;filter:saturate(.75) brightness(.92)}
.twin path{fill:none;stroke-linecap:round;vector-effect:non-scaling-stroke}
.l-edge{stroke:#0c1018;stroke-width:3.4;opacity:.22}
.l-line{stroke-width:1.6;opacity:.7}
.l-ring{stroke:#fff;stroke-width:8}
.l-dot{stroke-width:5.6}
.frame-of{fill:none;stroke-width:4}
.f-good{stroke:#16b98a}.f-bad{stroke:#f0562f}
.to{color:var(--soft);font-weight:400}
.c0{stroke:#5b84ff}.c1{stroke:#38a6ff}.c2{stroke:#22c7e6}.c3{stroke:#25dcb5}
.c4{stroke:#5fe67c}.c5{stroke:#a5ea50}.c6{stroke:#dddd3c}.c7{stroke:#ffc033}
.c8{stroke:#ff993b}.c9{stroke:#ff7150}.c10{stroke:#fb5a86}.c11{stroke:#dd66d2}
.curve.faint{opacity:.28;stroke-width:1}
.curve.dash{stroke-dasharray:2 6;stroke-width:2}
.t0{stroke:var(--blue)}.t1{stroke:var(--bad)}.t2{stroke:var(--good)}.t3{stroke:var(--soft)}
rect.t0{fill:var(--blue);stroke:none}rect.t1{fill:var(--good);stroke:none}rect.t2{fill:var(--dim);stroke:none}
.mark{stroke:var(--line);stroke-dasharray:3 4;fill:none}
.key svg.stroke{width:22px;height:8px;flex:none}.key svg.dot{width:10px;height:10px;flex:none}
.warn{border-color:var(--dim);background:var(--mid-soft)}
.warn p{margin:0 0 8px}.warn .do{font-weight:600;margin:0}
.warn h3::first-letter{text-transform:uppercase}
@media print{body{background:#fff}.tools,nav,.skip{display:none}.card,.tiles div{box-shadow:none;
break-inside:avoid}
.ask,.twins>*{content-visibility:visible}}
"""
"""One style sheet for all pages; no rule asks for anything from outside."""

SCRIPT = """
document.querySelectorAll("[data-list]").forEach(function (list) {
  var tools = document.getElementById(list.dataset.list), cards = list.children;
  var buttons = tools.querySelectorAll("button"), input = tools.querySelector("input");
  var found = tools.querySelector(".found"), state = "";
  function show() {
    var sought = input.value.toLowerCase(), seen = 0;
    for (var i = 0; i < cards.length; i++) {
      var card = cards[i].dataset;
      var fits = (!state || card.state === state) && card.name.toLowerCase().indexOf(sought) >= 0;
      cards[i].hidden = !fits;
      seen += fits ? 1 : 0;
    }
    found.textContent = seen + " of " + cards.length + " shown";
  }
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      state = button.value;
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", other === button); });
      show();
    });
  });
  input.addEventListener("input", show);
  tools.hidden = false;
  window.addEventListener("hashchange", function () {
    var card = document.getElementById(location.hash.slice(1));
    if (!card || card.parentNode !== list || !card.hidden) return;
    input.value = "";
    buttons[0].click();
    card.scrollIntoView();
  });
  show();
});
"""
"""Filters the cards of a list by state and name; without it all cards are there to read."""
