#include "tandem/report/page.h"

#include <array>

#include "tandem/base/sha256.h"
#include "tandem/report/escape.h"

namespace tandem::report {
namespace {

// Colours of Okabe and Ito (2008), told apart with every common colour blindness; lightened for the dark theme.
// Text has a contrast of at least 4.5 on its ground in both.
constexpr std::string_view kLight =
    "--bg:#fbfbfa;--card:#fff;--text:#1c2024;--soft:#5a6169;--rule:#dfe1e4;--grid:#e9ebee;--axis:#7b828a;--well:#f1f3f5;--c0:#0072b2;--c1:#c75200;"
    "--c2:#00875f;--c3:#a6790a;--c4:#b0568a;--c5:#3a8fc2;--cloud:#9aa5b1;--warn:#b3261e;--good:#00704e;--tip:#1c2024;--tipt:#fff;--hit:#0072b214;--accent:#005e93;color-scheme:light;";
constexpr std::string_view kDark =
    "--bg:#14171a;--card:#1c2024;--text:#e8eaed;--soft:#a5adb6;--rule:#343a41;--grid:#2a2f35;--axis:#89919a;--well:#23282d;--c0:#56b4e9;--c1:#f0883e;"
    "--c2:#2fbf91;--c3:#e6b422;--c4:#e08dbb;--c5:#9fd3f5;--cloud:#66717d;--warn:#ff8a80;--good:#4ccf9f;--tip:#e8eaed;--tipt:#14171a;--hit:#56b4e91f;--accent:#7cc5f0;color-scheme:dark;";

constexpr std::string_view kStyle = R"css(
*{box-sizing:border-box}
html{scroll-padding-top:3.2rem}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
a{color:var(--accent)}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;z-index:9;background:var(--card);padding:4px 10px}
header,main,footer{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:26px}
.kind{color:var(--soft);font-size:.85rem;letter-spacing:.04em;text-transform:uppercase;margin:0}
h1{font-size:1.7rem;line-height:1.2;margin:.1em 0 .25em;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:0}
.sub{color:var(--soft);margin:0 0 .6rem;overflow-wrap:anywhere}
.badge{display:inline-block;border:1px solid;border-radius:99px;padding:1px 11px;margin:0 8px 6px 0;font-size:.88rem;font-weight:600}
.good{color:var(--good)}.bad,.warn{color:var(--warn)}.muted{color:var(--soft)}
.code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.86em;overflow-wrap:anywhere}
pre{background:var(--well);border:1px solid var(--rule);border-radius:6px;padding:10px 12px;overflow-x:auto;white-space:pre-wrap}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:12px 0 4px;padding:0}
.figures div{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:9px 13px}
.figures dt{color:var(--soft);font-size:.85rem}.figures dd{margin:0}
.figures .v{font-size:1.3rem;font-weight:650;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.figures .s{color:var(--soft);font-size:.8rem}
nav{position:sticky;top:0;z-index:5;background:var(--bg);border-bottom:1px solid var(--rule);margin-top:14px}
nav div{max-width:1080px;margin:0 auto;padding:6px 20px;display:flex;gap:4px 16px;align-items:center;overflow-x:auto;white-space:nowrap;font-size:.92rem}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
button,.pick label{font:inherit;font-size:.86rem;color:var(--text);background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:3px 11px;cursor:pointer}
button:hover:not(:disabled){border-color:var(--accent)}button:disabled{opacity:.45;cursor:default}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
#theme{margin-left:auto}
.js-only{display:none}.js .js-only{display:inline-block}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,470px),1fr));gap:16px;align-items:start}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:13px 15px;min-width:0}
figure.wide{grid-column:1/-1}
figcaption p{margin:.15rem 0 .5rem;color:var(--soft);font-size:.9rem}
figure svg{display:block;width:100%;height:auto;border-radius:4px}
.scroll{overflow-x:auto}.wide .scroll svg{min-width:760px}
.note{color:var(--soft);font-size:.85rem;margin:.4rem 0 0}
.tools{display:flex;gap:8px;align-items:center;margin-top:8px;flex-wrap:wrap}
details{font-size:.9rem;flex:1 1 100%}summary{cursor:pointer;color:var(--accent)}
details .scroll{max-height:340px;overflow:auto;margin-top:6px}
.pick{margin:0 0 10px;padding:0;border:0;display:flex;flex-wrap:wrap;gap:6px;align-items:center}
.pick legend{float:left;margin-right:8px;color:var(--soft);font-size:.9rem;padding:0}
.pick input{position:absolute;opacity:0}.pick input:checked+label{background:var(--accent);color:var(--card);border-color:var(--accent)}
.pick input:focus-visible+label{outline:2px solid var(--accent);outline-offset:2px}
.one{display:none}.one.on,html:not(.js) .one{display:block}
figure+.tablebox,.charts+.tablebox,.picker+.tablebox,.charts+.picker{margin-top:14px}
.box{background:var(--card);border:1px solid var(--rule);border-radius:8px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:7px 10px;font-size:.88rem}
th,td{padding:5px 10px;text-align:left;border-bottom:1px solid var(--grid);vertical-align:top}
td{white-space:nowrap}td.w{white-space:normal;overflow-wrap:anywhere;min-width:26ch;max-width:64ch}td.r,th.r{text-align:right;white-space:nowrap;overflow-wrap:normal}
th{font-weight:600;color:var(--soft);white-space:nowrap}
thead th{position:sticky;top:0;background:var(--card);border-bottom:1px solid var(--axis)}
tfoot td{font-weight:600;border-top:1px solid var(--axis)}
tbody tr:hover{background:var(--hit)}tr.hit,tr:target{background:var(--hit);outline:2px solid var(--accent);outline-offset:-2px}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--accent)}
th[aria-sort=ascending] button::after{content:" \25B2";font-size:.7em}th[aria-sort=descending] button::after{content:" \25BC";font-size:.7em}
dl.pairs{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:3px 18px;margin:0;font-size:.92rem}
dl.pairs dt{color:var(--soft)}dl.pairs dd{margin:0;overflow-wrap:anywhere}
input[type=search]{font:inherit;font-size:.9rem;padding:4px 9px;border:1px solid var(--axis);border-radius:6px;background:var(--card);color:var(--text);min-width:0;width:16rem;max-width:100%}
#tip{position:fixed;z-index:20;display:none;max-width:330px;background:var(--tip);color:var(--tipt);border-radius:6px;padding:6px 10px;font-size:.84rem;line-height:1.4;white-space:pre-line;pointer-events:none;overflow-wrap:anywhere}
.live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
#broken{display:none;background:var(--warn);color:var(--card);padding:6px 20px}
footer{color:var(--soft);font-size:.85rem;padding-top:26px;padding-bottom:40px}
text{fill:var(--text);font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
.tk{fill:var(--soft);font-size:11.5px}.lb{fill:var(--text);font-size:12px}.halo{paint-order:stroke;stroke:var(--card);stroke-width:5px}.strong{fill:var(--text);font-weight:600}text.warn{fill:var(--warn);font-weight:600}
.gt{fill:var(--c1);font-size:11.5px;font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:3px}
.halo{paint-order:stroke;stroke:var(--card);stroke-width:3px}.bv{fill:var(--text)}
path,circle,rect{vector-effect:non-scaling-stroke}
.gr{stroke:var(--grid);fill:none}.ax{stroke:var(--axis);fill:none}.guide{stroke:var(--c1);stroke-dasharray:5 3;fill:none;stroke-width:1.5}
.mk{stroke:var(--c0);stroke-width:1.8;stroke-linejoin:round}.mk.o{fill:var(--card)}.mk.f{fill:var(--c0)}
.cloud{stroke:var(--cloud);stroke-width:3.4;stroke-linecap:round;fill:none}.inf{stroke:var(--cloud);stroke-width:1;fill:none;opacity:.75}
.front{stroke:var(--c0);stroke-width:1.4;fill:none;opacity:.7}.err,.stem{stroke:var(--c0);stroke-width:1.3;fill:none}.stem{stroke-width:3}
.hit{fill:transparent}.well{fill:var(--well)}
.b0{fill:var(--c0)}.b1{fill:var(--c3)}.b2{fill:var(--c2)}.b3{fill:var(--c4)}.b4{fill:var(--c5)}.b5{fill:var(--cloud)}.hot{fill:var(--c1)}
.l0,.l1,.l2,.l3,.l4,.l5{fill:none;stroke-width:1.9;stroke-linejoin:round}
.l0{stroke:var(--c0)}.l1{stroke:var(--c1);stroke-dasharray:7 3}.l2{stroke:var(--c2);stroke-dasharray:2 3}.l3{stroke:var(--c4);stroke-dasharray:9 3 2 3}.l4{stroke:var(--c3)}.l5{stroke:var(--c5)}
.d0{fill:var(--c0)}.d1{fill:var(--c1)}.d2{fill:var(--c2)}.d3{fill:var(--c4)}.d4{fill:var(--c3)}.d5{fill:var(--c5)}
.wave{stroke:var(--c2);stroke-width:1.6;fill:none}.bus{stroke:var(--c0);stroke-width:1.1;fill:var(--hit)}.idle{stroke:var(--axis);fill:none}
.pc{stroke:var(--cloud);stroke-width:.8;fill:none;opacity:.4}.pf{stroke:var(--c0);stroke-width:1.5;fill:none;opacity:.8}
.m:hover .hit,.m.sel .hit{fill:var(--hit)}.m:hover .mk,.m.sel .mk{stroke:var(--c1);stroke-width:3}.m:hover .pf,.m.sel .pf{stroke:var(--c1);stroke-width:3;opacity:1}.m:hover .bus,.m.sel .bus{stroke:var(--c1)}
.go{cursor:pointer}
@media (max-width:560px){header,main,footer{padding-left:12px;padding-right:12px}nav div{padding-left:12px;padding-right:12px}figure{padding:10px 9px}dl.pairs{grid-template-columns:1fr}dl.pairs dd{margin-bottom:6px}h1{font-size:1.4rem}.figures{grid-template-columns:1fr 1fr}}
@media print{nav,.tools button,.pick,#tip,.skip,button{display:none!important}body{font-size:10.5pt}header,main,footer{max-width:none}figure,.figures div,tr{break-inside:avoid}h2{break-after:avoid}.wide .scroll svg{min-width:0}.scroll,.box,details .scroll{overflow:visible;max-height:none}thead th{position:static}}
)css";

constexpr std::string_view kScript = R"js('use strict';
(() => {
const doc = document, root = doc.documentElement;
const fail = e => { root.dataset.error = String(e); const b = doc.getElementById('broken'); b.textContent = 'A part of this page did not work: ' + e; b.style.display = 'block'; };
window.addEventListener('error', e => fail(e.message));
window.addEventListener('unhandledrejection', e => fail(e.reason));
root.classList.add('js');
const $ = id => doc.getElementById(id);
const make = (tag, text, cls) => { const e = doc.createElement(tag); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const all = (where, what) => Array.from(where.querySelectorAll(what));

// theme
const store = { get: () => { try { return localStorage.getItem('tandem-theme'); } catch { return null; } }, set: v => { try { localStorage.setItem('tandem-theme', v); } catch { } } };
const dark = matchMedia('(prefers-color-scheme: dark)');
const now = () => root.dataset.theme || (dark.matches ? 'dark' : 'light');
const label = () => { $('theme').textContent = now() === 'dark' ? 'Light theme' : 'Dark theme'; };
if (['dark', 'light'].includes(store.get())) root.dataset.theme = store.get();
label();
dark.addEventListener('change', label);
$('theme').addEventListener('click', () => { root.dataset.theme = now() === 'dark' ? 'light' : 'dark'; store.set(root.dataset.theme); label(); });

// files: one writer for CSV, one for SVG
const csvCell = v => {
  let s = v === null || v === undefined ? '' : String(v);
  const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(s);
  if (!number && /^[=+\-@\t\r]/.test(s)) s = "'" + s;
  return /[",\n\r]/.test(s) ? '"' + s.replaceAll('"', '""') + '"' : s;
};
const csv = rows => rows.map(r => r.map(csvCell).join(',')).join('\n') + '\n';
const tableRows = t => all(t, 'tr').map(r => Array.from(r.cells).map(c => c.dataset.v ?? c.textContent.trim()));
const standalone = svg => {
  const copy = svg.cloneNode(true), from = [svg, ...all(svg, '*')], to = [copy, ...all(copy, '*')];
  const keep = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'stroke-linejoin', 'opacity', 'font-size', 'font-family', 'font-weight', 'paint-order'];
  from.forEach((e, i) => {
    const c = getComputedStyle(e), o = to[i];
    if (!/^(path|circle|rect|text)$/.test(e.tagName)) { o.removeAttribute('tabindex'); return; }
    for (const k of keep) { const v = c.getPropertyValue(k); if (v && v !== 'normal' && !(e.tagName !== 'text' && k.startsWith('font')) && !(v === 'none' && k !== 'fill')) o.setAttribute(k, v); }
    o.removeAttribute('class');
  });
  all(copy, '.m').forEach(g => { const t = doc.createElementNS('http://www.w3.org/2000/svg', 'title'); t.textContent = g.dataset.tip || ''; g.prepend(t); g.removeAttribute('data-tip'); g.removeAttribute('class'); });
  const b = svg.viewBox.baseVal, bg = doc.createElementNS('http://www.w3.org/2000/svg', 'rect');
  bg.setAttribute('width', b.width); bg.setAttribute('height', b.height); bg.setAttribute('fill', getComputedStyle(root).getPropertyValue('--card').trim());
  copy.prepend(bg);
  copy.setAttribute('width', b.width); copy.setAttribute('height', b.height);
  return new XMLSerializer().serializeToString(copy);
};
const save = (name, type, text) => {
  const a = make('a'), url = URL.createObjectURL(new Blob([text], { type }));
  a.href = url; a.download = name; doc.body.append(a); a.click(); a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};
doc.addEventListener('click', e => {
  const b = e.target.closest('button[data-save]');
  if (!b) return;
  const f = b.closest('figure, .tablebox'), name = f.id;
  if (b.dataset.save === 'svg') save(name + '.svg', 'image/svg+xml', standalone(f.querySelector('svg')));
  else save(name + '.csv', 'text/csv', csv(tableRows(f.querySelector('table'))));
});

// marks: tooltips, keyboard, going to a row
const tip = $('tip'), live = $('live');
all(doc, '.m').forEach(g => { const t = g.querySelector('title'); if (t) { g.dataset.tip = t.textContent; t.remove(); } });
all(doc, 'svg[role=img]').forEach(s => { const t = s.querySelector(':scope > title'); if (t) { s.setAttribute('aria-label', t.textContent + '. ' + s.querySelector('desc').textContent); s.removeAttribute('aria-labelledby'); t.remove(); } });
const show = (text, x, y) => {
  tip.textContent = text; tip.style.display = 'block';
  const w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - w - 6)) + 'px';
  tip.style.top = (y + 16 + h > innerHeight ? Math.max(4, y - h - 10) : y + 16) + 'px';
};
const hide = () => { tip.style.display = 'none'; };
let trials = null;
const go = id => {
  let row = $(id);
  if (!row && trials && /^t\d+$/.test(id)) row = trials.reveal(Number(id.slice(1)));
  if (!row) return;
  all(doc, 'tr.hit').forEach(r => r.classList.remove('hit'));
  row.classList.add('hit'); row.scrollIntoView({ block: 'center' });
};
const nearest = (svg, e) => {
  const f = svg.closest('[data-mx]');
  if (!trials || !f || !svg.dataset.map) return null;
  const m = svg.dataset.map.split(' ').map(Number), b = svg.getBoundingClientRect(), k = svg.viewBox.baseVal.width / b.width;
  return trials.near(Number(f.dataset.mx), Number(f.dataset.my), m, (e.clientX - b.left) * k, (e.clientY - b.top) * k);
};
doc.addEventListener('pointermove', e => {
  const g = e.target.closest?.('.m'), svg = e.target.closest?.('svg');
  if (g && g.dataset.tip) return show(g.dataset.tip, e.clientX, e.clientY);
  const n = svg && nearest(svg, e);
  if (n !== null && n !== undefined && n !== false) show(trials.tell(n), e.clientX, e.clientY); else hide();
});
doc.addEventListener('pointerleave', hide);
doc.addEventListener('scroll', hide, { passive: true });
doc.addEventListener('click', e => {
  const g = e.target.closest?.('.m.go'), svg = e.target.closest?.('svg');
  if (g) return go(g.dataset.row);
  const n = svg && nearest(svg, e);
  if (n !== null && n !== undefined && n !== false) go('t' + trials.id(n));
});
doc.addEventListener('keydown', e => {
  const svg = doc.activeElement;
  if (e.key === 'Escape') hide();
  if (!svg || svg.tagName !== 'svg') return;
  const marks = all(svg, '.m');
  let at = marks.findIndex(g => g.classList.contains('sel'));
  if (e.key === 'Enter' && at >= 0 && marks[at].dataset.row) { e.preventDefault(); return go(marks[at].dataset.row); }
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
  if (!marks.length || (!by && e.key !== 'Home' && e.key !== 'End')) return;
  e.preventDefault();
  if (at >= 0) marks[at].classList.remove('sel');
  at = e.key === 'Home' ? 0 : e.key === 'End' ? marks.length - 1 : at < 0 ? (by > 0 ? 0 : marks.length - 1) : (at + by + marks.length) % marks.length;
  const g = marks[at], b = g.getBoundingClientRect();
  g.classList.add('sel'); live.textContent = g.dataset.tip; show(g.dataset.tip, b.left + b.width / 2, b.top + b.height / 2);
});
all(doc, 'svg').forEach(s => s.addEventListener('blur', () => { hide(); all(s, '.sel').forEach(g => g.classList.remove('sel')); }));

// pictures to choose from
all(doc, '.pick input').forEach(i => i.addEventListener('change', () => {
  all(i.closest('.picker'), '.one').forEach(o => o.classList.toggle('on', o.dataset.of === i.value));
}));

// tables that sort
const compare = (a, b) => { const x = a === null || a === '', y = b === null || b === ''; if (x || y) return x - y; return typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true }); };
const sortable = (head, act) => all(head, 'th').forEach((th, i) => {
  const b = make('button', th.textContent); b.type = 'button'; th.textContent = ''; th.append(b);
  b.addEventListener('click', () => {
    const down = th.getAttribute('aria-sort') === 'ascending';
    all(head, 'th').forEach(o => o.removeAttribute('aria-sort'));
    th.setAttribute('aria-sort', down ? 'descending' : 'ascending'); act(i, down ? -1 : 1);
  });
});
all(doc, 'table.sort').forEach(t => sortable(t.tHead, (i, sign) => {
  const value = r => { const c = r.cells[i]; return c.dataset.v !== undefined ? Number(c.dataset.v) : c.textContent; };
  const rows = Array.from(t.tBodies[0].rows).map(r => [value(r), r]);
  rows.sort((a, b) => sign * compare(a[0], b[0])); t.tBodies[0].append(...rows.map(r => r[1]));
}));

// all trials of a study
const source = $('trials-data');
if (source) {
  const d = JSON.parse(source.textContent), n = d.id.length, size = 50, place = $('trials');
  const text = v => v === null || v === undefined ? '' : typeof v === 'number' ? (Number.isInteger(v) && Math.abs(v) < 1e15 ? v.toLocaleString('en') : String(Number(v.toPrecision(5)))) : v;
  const state = i => ['infeasible', 'feasible', 'front'][Number(d.state[i])];
  const columns = [{ n: 'trial', r: 1, at: i => d.id[i] }, ...d.params.map(p => ({ n: p.n, at: i => { const v = p.v[p.i[i]] ?? null; return v !== null && v.trim() !== '' && Number.isFinite(Number(v)) ? Number(v) : v; } })),
    ...d.metrics.map(m => ({ n: m.u && m.u !== m.n ? m.n + ' (' + m.u + ')' : m.n, r: 1, at: i => m.v[i], fidelity: i => d.fidelities[parseInt(m.f[i], 36)] })),
    { n: 'state', at: state }, { n: 's', r: 1, at: i => d.seconds[i] }, { n: 'reason', at: i => d.reasons[d.reason[i]] ?? '' }];
  let order = Array.from({ length: n }, (_, i) => i), shown = order, page = 0;
  const box = make('div', undefined, 'tablebox'); box.id = 'all-trials';
  const tools = make('div', undefined, 'tools'), find = make('input'), count = make('span', '', 'muted'), back = make('button', 'Previous'), next = make('button', 'Next'), out = make('button', 'CSV');
  find.type = 'search'; find.placeholder = 'Filter: words, or lut4 < 4000'; find.setAttribute('aria-label', 'Filter the trials by words or by a comparison');
  const scroll = make('div', undefined, 'box'), table = make('table'), head = table.createTHead().insertRow(), body = table.createTBody();
  columns.forEach(c => { const th = make('th', c.n, c.r ? 'r' : ''); th.scope = 'col'; head.append(th); });
  tools.append(find, back, next, out, count); scroll.append(table); box.append(tools, scroll); place.replaceChildren(box);
  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / size)); page = Math.max(0, Math.min(page, pages - 1));
    body.replaceChildren(...shown.slice(page * size, page * size + size).map(i => {
      const r = make('tr'); r.dataset.id = d.id[i];
      columns.forEach((c, k) => {
        const td = r.insertCell(), v = c.at(i); if (c.r) td.className = 'r';
        const href = k === 0 && d.design[i];
        if (href) { const a = make('a', text(v)); a.href = href; td.append(a); } else td.textContent = text(v);
        if (!c.r && td.textContent.length > 40) td.className = 'w';
        if (c.fidelity && v !== null) td.title = c.fidelity(i) ?? '';
      });
      return r;
    }));
    count.textContent = shown.length.toLocaleString('en') + ' of ' + n.toLocaleString('en') + ' trials, page ' + (page + 1) + ' of ' + pages;
    back.disabled = page === 0; next.disabled = page + 1 >= pages;
  };
  const filter = () => {
    const parts = find.value.trim().match(/[^\s<>=]+\s*[<>]=?\s*[-+.\deE]+|\S+/g) ?? [];
    const tests = parts.map(p => {
      const m = p.match(/^(.+?)\s*([<>]=?)\s*([-+.\deE]+)$/), key = m && m[1].toLowerCase(), c = m && (columns.find(c => c.n.toLowerCase() === key) ?? columns.find(c => c.n.toLowerCase().startsWith(key)));
      if (c) { const v = Number(m[3]); return i => { const x = c.at(i); return typeof x === 'number' && (m[2] === '<' ? x < v : m[2] === '<=' ? x <= v : m[2] === '>' ? x > v : x >= v); }; }
      const w = p.toLowerCase(); return i => columns.some(c => String(c.at(i) ?? '').toLowerCase().includes(w));
    });
    shown = tests.length ? order.filter(i => tests.every(t => t(i))) : order; page = 0; draw();
  };
  sortable(table.tHead, (k, sign) => { const key = order.map(i => [columns[k].at(i), i]); key.sort((a, b) => sign * compare(a[0], b[0]) || a[1] - b[1]); order = key.map(x => x[1]); filter(); });
  find.addEventListener('input', filter);
  back.addEventListener('click', () => { --page; draw(); });
  next.addEventListener('click', () => { ++page; draw(); });
  out.addEventListener('click', () => save('trials.csv', 'text/csv', csv([columns.map(c => c.n), ...shown.map(i => columns.map(c => c.at(i)))])));
  const where = new Map(d.id.map((id, i) => [id, i]));
  trials = {
    id: i => d.id[i],
    tell: i => 'trial ' + d.id[i] + ', ' + state(i) + '\n' + d.params.map(p => p.n + ' = ' + (p.v[p.i[i]] ?? '')).join(', ') + '\n' + d.metrics.map(m => m.n + ': ' + text(m.v[i]) + (m.u && m.u !== m.n ? ' ' + m.u : '')).join('\n') + (d.reasons[d.reason[i]] ? '\n' + d.reasons[d.reason[i]] : ''),
    near: (mx, my, m, x, y) => {
      const X = d.metrics[mx].v, Y = d.metrics[my].v, f = (v, lo, hi, log) => log ? Math.log(v / lo) / Math.log(hi / lo) : (v - lo) / (hi - lo);
      let best = null, least = 81;
      for (let i = 0; i < n; ++i) {
        if (X[i] === null || Y[i] === null) continue;
        const dx = m[0] + m[1] * f(X[i], m[2], m[3], m[4]) - x, dy = m[5] + m[6] * (1 - f(Y[i], m[7], m[8], m[9])) - y, q = dx * dx + dy * dy;
        if (q < least) { least = q; best = i; }
      }
      return best;
    },
    reveal: id => { if (!where.has(id)) return null; find.value = ''; shown = order; page = Math.floor(order.indexOf(where.get(id)) / size); draw(); return body.querySelector('tr[data-id="' + id + '"]'); },
  };
  draw();
}
all(doc, 'a[href^="#t"]').forEach(a => a.addEventListener('click', e => { e.preventDefault(); go(a.getAttribute('href').slice(1)); }));
root.dataset.ready = 'yes';
window.tandem = { csv, csvCell, standalone, go, tableRows, trials };
})();
)js";

std::string policy_hash(std::string_view text) {
  const auto h = sha256(text);
  return "'sha256-" + base64(std::string_view(reinterpret_cast<const char*>(h.data()), h.size())) + "'";
}

std::string cell_html(const Cell& c, bool right, std::string_view tag) {
  std::string cls = right ? "r" : "";
  if (!c.mark.empty()) cls += (cls.empty() ? "" : " ") + c.mark;
  // Long text wraps; what is short stays in its line, and a wide table scrolls.
  if (!right && c.text.size() > 40) cls += cls.empty() ? "w" : " w";
  std::string t = fmt::format("<{}{}{}>", tag, cls.empty() ? std::string() : fmt::format(" class=\"{}\"", html(cls)), c.value ? fmt::format(" data-v=\"{}\"", *c.value) : std::string());
  const std::string text = html(c.text);
  t += c.href.empty() ? text : fmt::format("<a href=\"{}\">{}</a>", html(c.href), text);
  return t + fmt::format("</{}>", tag);
}

}  // namespace

std::string_view page_script() { return kScript; }

std::string table_html(const Grid& g, std::string_view caption) {
  std::string t = "<table class=\"sort\">";
  if (!caption.empty()) t += "<caption>" + html(caption) + "</caption>";
  t += "<thead><tr>";
  for (const Grid::Column& c : g.columns)
    t += fmt::format("<th scope=\"col\"{}{}>{}</th>", c.right ? " class=\"r\"" : "", c.note.empty() ? std::string() : fmt::format(" title=\"{}\"", html(c.note)), html(c.name));
  t += "</tr></thead><tbody>";
  for (std::size_t i = 0; i < g.rows.size(); ++i) {
    t += i < g.ids.size() ? fmt::format("<tr id=\"{}\">", html(g.ids[i])) : "<tr>";
    for (std::size_t k = 0; k < g.rows[i].size(); ++k) t += cell_html(g.rows[i][k], k < g.columns.size() && g.columns[k].right, "td");
    t += "</tr>";
  }
  t += "</tbody>";
  if (!g.foot.empty()) {
    t += "<tfoot><tr>";
    for (std::size_t k = 0; k < g.foot.size(); ++k) t += cell_html(g.foot[k], k < g.columns.size() && g.columns[k].right, "td");
    t += "</tr></tfoot>";
  }
  return t + "</table>\n";
}

Page::Page(std::string_view kind, std::string_view title, std::string_view subtitle) : kind_(kind), title_(title), subtitle_(subtitle) {}

void Page::close() {
  if (charts_open_) body_ += "</div>\n";
  charts_open_ = false;
}

void Page::badge(std::string_view text, std::string_view mark) { badges_ += fmt::format("<span class=\"badge {}\">{}</span>", html(mark), html(text)); }

void Page::figures(const std::vector<std::array<std::string, 3>>& f) {
  figures_ = "<dl class=\"figures\">";
  for (const auto& [name, value, source] : f)
    figures_ += fmt::format("<div><dt>{}</dt><dd class=\"v\">{}</dd><dd class=\"s\">{}</dd></div>", html(name), html(value), html(source));
  figures_ += "</dl>\n";
}

void Page::section(std::string_view id, std::string_view title) {
  close();
  if (section_open_) body_ += "</section>\n";
  section_open_ = true;
  sections_.emplace_back(id, title);
  body_ += fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-h\"><h2 id=\"{0}-h\">{1}</h2>\n", html(id), html(title));
}
void Page::paragraph(std::string_view text, std::string_view mark) {
  close();
  body_ += fmt::format("<p{}>{}</p>\n", mark.empty() ? std::string() : fmt::format(" class=\"{}\"", html(mark)), html(text));
}
void Page::list(const std::vector<std::string>& lines) {
  close();
  body_ += "<ul>";
  for (const std::string& l : lines) body_ += "<li>" + html(l) + "</li>";
  body_ += "</ul>\n";
}

namespace {
std::string figure(const Chart& c, std::string_view attributes) {
  std::string t = fmt::format("<figure id=\"{}\"{}{}><figcaption><h3>{}</h3><p>{}</p></figcaption><div class=\"scroll\">", html(c.id), c.wide ? " class=\"wide\"" : "", attributes, html(c.title), html(c.summary));
  t += c.svg + "</div>";
  if (!c.note.empty()) t += "<p class=\"note\">" + html(c.note) + "</p>";
  t += "<div class=\"tools\"><button type=\"button\" class=\"js-only\" data-save=\"svg\">Save SVG</button><button type=\"button\" class=\"js-only\" data-save=\"csv\">Save CSV</button>"
       "<details><summary>Data as a table</summary><div class=\"scroll\">" +
       table_html(c.table) + "</div></details></div></figure>\n";
  return t;
}
}  // namespace

void Page::chart(const Chart& c, std::string_view attributes) {
  if (!charts_open_) body_ += "<div class=\"charts\">\n";
  charts_open_ = true;
  body_ += figure(c, attributes);
}

void Page::choose(std::string_view id, std::string_view label, const std::vector<std::pair<std::string, Chart>>& charts, const std::vector<std::string>& attributes) {
  close();
  body_ += "<div class=\"picker\">";
  if (charts.size() > 1) {
    body_ += fmt::format("<fieldset class=\"pick\"><legend>{}</legend>", html(label));
    for (std::size_t i = 0; i < charts.size(); ++i)
      body_ += fmt::format("<input type=\"radio\" name=\"{0}\" id=\"{0}-{1}\" value=\"{1}\"{2}><label for=\"{0}-{1}\">{3}</label>", html(id), i, i ? "" : " checked", html(charts[i].first));
    body_ += "</fieldset>";
  }
  for (std::size_t i = 0; i < charts.size(); ++i)
    body_ += fmt::format("<div class=\"one{}\" data-of=\"{}\"><div class=\"charts\">{}</div></div>", i ? "" : " on", i, figure(charts[i].second, i < attributes.size() ? attributes[i] : std::string()));
  body_ += "</div>\n";
}

void Page::table(std::string_view id, std::string_view caption, const Grid& g) {
  close();
  body_ += fmt::format("<div class=\"tablebox\" id=\"{}\"><div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">", html(id), html(caption));
  body_ += table_html(g, caption);
  body_ += "</div><div class=\"tools\"><button type=\"button\" class=\"js-only\" data-save=\"csv\">Save CSV</button></div></div>\n";
}
void Page::pairs(const std::vector<std::pair<std::string, std::string>>& p) {
  close();
  body_ += "<dl class=\"pairs\">";
  for (const auto& [k, v] : p) body_ += fmt::format("<dt>{}</dt><dd>{}</dd>", html(k), html(v));
  body_ += "</dl>\n";
}
void Page::pre(std::string_view text) {
  close();
  body_ += "<pre>";
  for (std::size_t i = 0; i <= text.size();) {  // html() makes line breaks visible; here they are meant
    const std::size_t end = std::min(text.find('\n', i), text.size());
    body_ += html(text.substr(i, end - i)) + (end < text.size() ? "\n" : "");
    i = end + 1;
  }
  body_ += "</pre>\n";
}
void Page::data(std::string_view id, const std::string& j) {
  close();
  body_ += fmt::format("<script type=\"application/json\" id=\"{}\">{}</script>\n", html(id), j);
}
void Page::place(std::string_view id, std::string_view without_script) {
  close();
  body_ += fmt::format("<div id=\"{}\"><p class=\"muted\">{}</p></div>\n", html(id), html(without_script));
}

std::string Page::done(std::string_view more_script) const {
  const std::string style = fmt::format(":root{{{0}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{1}}}}}:root[data-theme=dark]{{{1}}}@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]{{{0}}}}}{2}", kLight, kDark, kStyle);
  std::string script(kScript);
  script += more_script;
  std::string t = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  t += fmt::format("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'\">\n", policy_hash(style), policy_hash(script));
  t += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n";
  t += fmt::format("<title>{} - {}</title>\n<style>{}</style>\n</head>\n<body>\n", html(title_), html(kind_), style);
  t += "<a class=\"skip\" href=\"#main\">To the content</a>\n<div id=\"broken\" role=\"alert\"></div>\n";
  t += fmt::format("<header><p class=\"kind\">{}</p><h1>{}</h1><p class=\"sub\">{}</p><div>{}</div>{}</header>\n", html(kind_), html(title_), html(subtitle_), badges_, figures_);
  t += "<nav aria-label=\"Sections\"><div>";
  for (const auto& [id, title] : sections_) t += fmt::format("<a href=\"#{}\">{}</a>", html(id), html(title));
  t += "<button id=\"theme\" type=\"button\" class=\"js-only\">Theme</button></div></nav>\n<main id=\"main\">\n";
  t += body_;
  if (charts_open_) t += "</div>\n";
  if (section_open_) t += "</section>\n";
  t += "</main>\n<footer>Written by Tandem. This page asks nothing of any server; what it shows lies in it.</footer>\n";
  t += "<div id=\"tip\" role=\"tooltip\"></div><div id=\"live\" class=\"live\" aria-live=\"polite\"></div>\n";
  t += fmt::format("<script>{}</script>\n</body>\n</html>\n", script);
  return t;
}

}  // namespace tandem::report
