"use strict";
(() => {
  const PAGE = 60;
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = [];            // in row order, as far as they are loaded
  const byRow = new Map();
  const $ = (id) => document.getElementById(id);
  const views = ["gallery", "row", "charts", "failures", "about"];
  let found = rows, numShown = 0, scrollBack = 0, numLoadedChunks = 0, currentRow = null;

  // Elements are made with text, never with markup: prompts come from anywhere.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const href = (key) => "../" + key.split("/").map(encodeURIComponent).join("/");
  const number = (value) => value.toLocaleString("en");
  const sizeOf = (row) => (row.w ? `${row.w} × ${row.h}` : "");
  const titleOf = (row) => row.prompt || `Row ${row.row}`;
  const textOf = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

  // ---- data: the first rows are in the page, the others come as scripts, which works from file:// too
  const take = (chunk) => {
    for (const row of chunk) {
      row.hay = [row.id, row.prompt, row.text, row.error, row.message, ...Object.values(row.extra || {})].filter(Boolean).map(textOf).join("\n").toLowerCase();
      rows.push(row);
      byRow.set(row.row, row);
    }
  };
  window.dimooRows = take;
  const loadNext = () => {
    if (numLoadedChunks >= data.chunks.length) return;
    const script = make("script", { src: data.chunks[numLoadedChunks] });
    const goOn = () => { numLoadedChunks += 1; fillFilters(); update(false); loadNext(); };
    script.onload = goOn;
    script.onerror = () => { data.missing = (data.missing || 0) + 1; goOn(); };
    document.head.append(script);
  };

  // ---- filters, kept in the address
  const controls = new Map(["q", "task", "status", "size", "score", "sort"].map((name) => [name, $(name)]));
  const columns = data.columns.map(({ name, values }, at) => {
    const sorted = [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const select = make("select", { id: `column-${at}` }, make("option", { value: "" }, "All"), ...sorted.map((value) => make("option", { value }, value)));
    $("score-label").before(make("label", {}, make("span", { class: "column", title: name }, name), select));
    controls.set(`column.${name}`, select);  // a column may be called like another filter
    return { name, select };
  });
  const readAddress = () => {
    const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
    return { parts: path.split("/").filter(Boolean), query: new URLSearchParams(query) };
  };
  const address = () => {
    const query = new URLSearchParams();
    for (const [name, control] of controls) if (control.value) query.set(name, control.value);
    return "#/gallery" + (query.size ? "?" + query : "");
  };
  const fillFilters = () => {
    for (const [name, read] of [["task", (row) => row.task], ["size", sizeOf]]) {
      const known = new Set([...$(name).options].map((option) => option.value));
      const fresh = [...new Set(rows.map(read))].filter((value) => value && !known.has(value));
      const sorted = fresh.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      for (const value of sorted) $(name).append(make("option", { value }, value.replaceAll("_", " ")));
    }
    $("score-label").hidden = !rows.some((row) => row.score !== undefined);
  };
  const matching = () => {
    const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [task, status, size, sort] = ["task", "status", "size", "sort"].map((name) => $(name).value);
    const chosen = columns.filter(({ select }) => select.value).map(({ name, select }) => [name, select.value]);
    const least = $("score").value === "" ? null : Number($("score").value);
    const kept = rows.filter((row) =>
      (!task || row.task === task) && (!status || (status === "done") === Boolean(row.ok)) && (!size || sizeOf(row) === size) &&
      chosen.every(([name, value]) => row.extra && name in row.extra && textOf(row.extra[name]) === value) &&
      (least === null || (row.score !== undefined && row.score >= least)) && words.every((word) => row.hay.includes(word)));
    const measure = { words: (row) => (row.text || "").split(/\s+/).length * (row.text ? 1 : 0), bytes: (row) => row.bytes || 0, score: (row) => row.score ?? -Infinity }[sort];
    return measure ? kept.sort((a, b) => measure(b) - measure(a)) : kept;
  };

  // ---- gallery
  const picture = (row) => {
    const key = row.thumb || (row.image ? null : row.source);
    const box = make("div", { class: "pic" });
    if (key) {
      const image = make("img", { src: href(key), alt: "", loading: "lazy", decoding: "async" });
      if (row.image ? row.w <= 128 : false) image.classList.add("crisp");
      image.onload = () => { if (image.naturalWidth <= 128) image.classList.add("crisp"); };
      image.onerror = () => image.replaceWith(make("span", { class: "none" }, "picture missing"));
      box.append(image);
    } else box.append(make("span", { class: "none" }, row.ok ? (row.image ? "picture missing" : "no picture") : "failed"));
    if (row.thumb && row.source) box.append(make("img", { class: "input", src: href(row.source), alt: "", loading: "lazy" }));
    return box;
  };
  const card = (row) => {
    const words = make("div", { class: "words" });
    words.append(make("p", { class: row.text ? "prompt asked" : "prompt" }, titleOf(row)));
    if (row.text !== undefined) words.append(make("p", { class: "answer" }, row.text));
    if (!row.ok) words.append(make("p", { class: "why" }, `${row.stage}: ${row.message || row.error}`));
    const tags = make("p", { class: "tags" });
    if (!row.ok) tags.append(make("span", { class: "failed" }, "failed"));
    for (const tag of [row.task && row.task.replaceAll("_", " "), sizeOf(row), row.score !== undefined && `score ${+row.score.toFixed(3)}`]) {
      if (tag) tags.append(make("span", {}, tag));
    }
    words.append(tags);
    return make("li", {}, make("a", { class: row.ok ? "card" : "card is-failed", href: `#/row/${row.row}` }, picture(row), words));
  };
  const showMore = () => {
    const next = found.slice(numShown, numShown + PAGE);
    $("grid").append(...next.map(card));
    numShown += next.length;
    $("more").hidden = numShown >= found.length;
  };
  const say = () => {
    const pending = numLoadedChunks < data.chunks.length ? `, ${number(rows.length)} of ${number(data.shown)} loaded` : "";
    const sampled = data.shown < data.rows ? ` (the page shows ${number(data.shown)} of the run's ${number(data.rows)})` : "";
    const lost = data.missing ? `, ${data.missing} data files are missing` : "";
    $("count").textContent = `${number(found.length)} ${found.length === 1 ? "row" : "rows"}${pending}${sampled}${lost}`;
  };
  const update = (isNewQuestion) => {
    found = matching();
    say();
    if (!isNewQuestion && numShown >= PAGE && !$("sort").value) { $("more").hidden = numShown >= found.length; return; }
    $("grid").replaceChildren();
    numShown = 0;
    if (found.length) showMore();
    else { $("grid").append(make("li", { class: "empty" }, "No rows match. Clear the filters to see all rows.")); $("more").hidden = true; }
  };

  // ---- one row
  const shownImage = (key, fullKey, words, what, small) => {
    const image = make("img", { src: href(key), alt: `${what}: ${words}` });
    image.onload = () => { if (Math.max(image.naturalWidth, image.naturalHeight) <= small) image.classList.add("crisp"); };
    image.onerror = () => image.replaceWith(make("span", { class: "none" }, `${what} is missing`));
    return make("figure", {}, make("a", { href: href(fullKey), "aria-label": `Open the ${what.toLowerCase()} alone` }, image), make("figcaption", {}, what));
  };
  const facts = (entries) => {
    const list = make("dl", { class: "facts" });
    for (const [name, value, kind] of entries) {
      if (value === undefined || value === null || value === "") continue;
      list.append(make("div", {}, make("dt", {}, name), make("dd", kind ? { class: kind } : {}, textOf(value))));
    }
    return list;
  };
  const showRow = (row) => {
    const at = found.indexOf(row);
    const step = (offset, words) => {
      const other = at < 0 ? undefined : found[at + offset];
      return other ? make("a", { href: `#/row/${other.row}`, rel: offset < 0 ? "prev" : "next" }, words) : null;
    };
    const pair = make("div", { class: "pair" });
    if (row.source) pair.append(shownImage(row.source, row.source, titleOf(row), "Source", 128));
    if (row.image) pair.append(shownImage(row.thumb ? row.image : row.image, row.image, titleOf(row), "Result", 128));
    const left = make("div", {});
    if (!row.ok) left.append(make("div", { class: "fault" }, make("strong", {}, `Failed at ${row.stage}: ${row.error}`), make("p", {}, row.message || "")));
    if (row.text !== undefined) pair.append(make("p", { class: "said" }, row.text));
    if (pair.children.length) left.append(pair);
    if (row.strip) {
      const strip = make("div", { class: "strip", tabindex: "0", role: "group", "aria-label": "The image after each step" });
      row.strip.forEach((key) => strip.append(make("figure", {}, make("img", { src: href(key), alt: "", loading: "lazy" }), make("figcaption", {}, key.replace(/^.*step-0*(\d+).*$/, "step $1")))));
      left.append(make("h3", {}, "Step by step"), strip);
    }
    const side = make("div", { class: "side" }, facts([
      ["Row", row.row], ["Id", row.id, "mono"], ["Task", row.task], ["Status", row.ok ? "done" : "failed"], ["Size", sizeOf(row)],
      ["File", row.bytes && `${number(Math.ceil(row.bytes / 1024))} KiB`], ["Words", row.text && row.text.split(/\s+/).length],
      ...Object.entries(row.set || {}).map(([name, value]) => [name, value, name === "sha256" ? "mono" : ""]),
      ...Object.entries(row.extra || {}),
    ]));
    $("row").replaceChildren(
      make("div", { class: "crumbs" }, make("a", { href: address() }, "← All rows"), make("span", {}, step(-1, "← Previous"), step(1, "Next →"))),
      make("h2", { id: "row-title", tabindex: "-1" }, titleOf(row)),
      make("p", { class: "meta" }, [row.id, row.task && row.task.replaceAll("_", " "), sizeOf(row)].filter(Boolean).join(" · ")),
      make("div", { class: "detail" }, left, side));
    document.title = `Row ${row.row} · ${data.title}`;
  };

  // ---- where we are
  const route = () => {
    const { parts, query } = readAddress();
    let view = views.includes(parts[0]) ? parts[0] : "gallery";
    const wasRow = currentRow;
    currentRow = null;
    if (view === "row") {
      currentRow = byRow.get(Number(parts[1])) || null;
      if (wasRow === null) scrollBack = scrollY;
      if (currentRow) showRow(currentRow);
      else $("row").replaceChildren(make("h2", { id: "row-title", tabindex: "-1" }, numLoadedChunks < data.chunks.length ? "Loading …" : "This row is not on the page"), make("p", {}, make("a", { href: "#/gallery" }, "All rows")));
    }
    for (const name of views) $(name).hidden = name !== view;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.view === view || (view === "row" && link.dataset.view === "gallery")) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (view !== "row") document.title = data.title;
    if (view === "gallery") {
      let isChanged = false;
      for (const [name, control] of controls) {
        const value = query.get(name) || "";
        if (control.value !== value) { control.value = value; isChanged = isChanged || control.value === value; }
      }
      if (isChanged) update(true);
      if (wasRow) {
        scrollTo(0, scrollBack);
        const link = $("grid").querySelector(`a[href="#/row/${wasRow.row}"]`);
        if (link) link.focus({ preventScroll: true });
      }
    } else {
      scrollTo(0, 0);
      if (view === "row") $("row-title").focus({ preventScroll: true });
    }
  };
  const ask = () => { history.replaceState(null, "", address()); update(true); };

  // ---- start
  for (const option of [...$("sort").options]) if (option.value && !data.sorts.includes(option.value)) option.remove();
  $("sort-label").hidden = !data.sorts.length;
  take(data.first);
  fillFilters();
  update(true);
  route();
  addEventListener("hashchange", route);
  $("filters").addEventListener("input", ask);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(ask));
  $("more").addEventListener("click", () => {
    const first = numShown;
    showMore();
    $("grid").children[first]?.querySelector("a").focus({ preventScroll: true });
  });
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && !$("more").hidden) showMore(); }, { rootMargin: "600px" }).observe($("more").parentElement);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const press = (selector) => { const link = $("row").querySelector(selector); if (link && currentRow) { event.preventDefault(); link.click(); } };
    if (event.key === "/") {  // at once: what is typed next would be lost
      event.preventDefault();
      if (location.hash.startsWith("#/row")) { location.hash = address(); route(); }
      $("q").focus();
    }
    else if (event.key === "ArrowLeft") press("a[rel=prev]");
    else if (event.key === "ArrowRight") press("a[rel=next]");
    else if (event.key === "Escape" && currentRow) location.hash = address();
  });
  const theme = { get: () => { try { return localStorage.getItem("dimoo-theme"); } catch { return null; } }, set: (value) => { try { localStorage.setItem("dimoo-theme", value); } catch { /* file:// may refuse */ } } };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => { document.documentElement.dataset.theme = theme.get() || (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", paint);
  $("theme").addEventListener("click", () => { theme.set(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); paint(); });
  paint();
  setTimeout(() => { loadNext(); if (readAddress().parts[0] === "row") { const timer = setInterval(() => { if (!currentRow) route(); if (currentRow || numLoadedChunks >= data.chunks.length) clearInterval(timer); }, 100); } });
})();
