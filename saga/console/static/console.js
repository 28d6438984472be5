// Keys, the theme switch, and what keeps live pages calm. Everything else is HTML and htmx.
(() => {
  "use strict";
  const root = document.documentElement;
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // --- theme -----------------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const nameTheme = () => all("[data-theme-switch]").forEach((button) => {
    button.textContent = theme() === "dark" ? "Light theme" : "Dark theme";
  });
  const switchTheme = () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("saga-theme", root.dataset.theme); } catch { /* for this page only */ }
    nameTheme();
  };
  dark.addEventListener("change", nameTheme);

  // --- rows: j and k move the focus from link to link ------------------------------------------------------------
  const rows = () => all("[data-row]");
  const move = (by) => {
    const links = rows();
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1)];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  };

  // --- keys ------------------------------------------------------------------------------------------------------
  let going = 0;
  const go = (key) => {
    const link = $(`[data-go="${CSS.escape(key)}"]`);
    if (link) location.assign(link.href);
    return Boolean(link);
  };
  const help = () => { const dialog = $("#keys"); if (dialog.open) dialog.close(); else dialog.showModal(); };
  const keys = {
    j: () => move(1), k: () => move(-1), "?": help, t: switchTheme,
    "/": () => { const search = $("[data-search]"); if (search) { search.focus(); search.select(); } else go("s"); },
    a: () => { const act = $("[data-act]"); if (act) { act.scrollIntoView({ block: "nearest" }); act.focus(); } },
    n: () => { const next = $("[rel=next]"); if (next) next.click(); },
    p: () => { const first = $("[rel=prev]"); if (first) first.click(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select");
    if (event.key === "Escape" && typing) { typing.blur(); return; }
    if (typing || $("dialog[open]")) return;
    if (Date.now() - going < 1500 && go(event.key)) { going = 0; event.preventDefault(); return; }
    going = 0;
    if (event.key === "g") { going = Date.now(); return; }
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-switch]")) switchTheme();
    if (event.target.closest("[data-help]")) help();
    const remedy = event.target.closest("[data-fill]");
    if (remedy) fill(remedy);
    const tab = event.target.closest("[data-copy]");
    if (tab && navigator.clipboard) navigator.clipboard.writeText(tab.dataset.copy).then(() => { tab.textContent = "copied"; });
  });

  // --- forms: the fields a verb needs, and what has been looked at is what is done ---------------------------------
  const showFields = (form) => {
    const verb = $("[name=verb]:checked", form);
    form.dataset.verb = verb ? verb.value : "";
    const run = $("select[name=run]", form);
    if (!run) return;
    // Only a retry may be about everything; the others are about one step, and its results are of that step's types.
    const everything = $("option[value='']", run);
    everything.hidden = everything.disabled = ["skip", "resolve"].includes(form.dataset.verb);
    if (everything.disabled && !run.value) run.value = (all("option", run).find((option) => !option.disabled) || { value: "" }).value;
    const step = run.value.split("/")[0];
    all("[name=result_type] option[data-step]", form).forEach((option) => {
      option.hidden = option.disabled = option.dataset.step !== step;
      if (option.disabled && option.selected) option.parentElement.value = "";
    });
  };
  const fit = () => {
    const said = $("[data-fits]"), form = $("#act form.act");
    if (!said || !form) return;
    const verbs = said.dataset.fits.split(" ").filter(Boolean);
    all("[name=verb]", form).forEach((verb) => { verb.closest("label").hidden = !verbs.includes(verb.value); });
    // A form that somebody has asked by keeps its answer in sight, whatever has become of the saga.
    if (!verbs.length && !$(".result", form).children.length) { form.hidden = true; $("[data-over]").hidden = false; }
    const chosen = $("[name=verb]:checked", form);
    if (chosen && chosen.closest("label").hidden && !$(".result", form).children.length) {
      const other = all("[name=verb]", form).find((verb) => !verb.closest("label").hidden);
      if (other) { other.checked = true; showFields(form); }
    }
  };
  const fill = (button) => {
    const form = $("#act form.act"), verb = $(`[name=verb][value="${CSS.escape(button.dataset.fill)}"]`, form);
    if (!verb) return;
    verb.checked = true;
    $("select[name=run]", form).value = button.dataset.fillRun;
    for (const [name, value] of [["verdict", button.dataset.fillVerdict], ["result_type", button.dataset.fillType]]) {
      const field = $(`select[name=${name}]`, form);
      if (field) field.value = value;
    }
    showFields(form);
    forget(form);
    form.scrollIntoView({ block: "nearest" });
    $("[name=why]", form).focus();
  };
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form.act");
    if (!form) return;
    showFields(form);
    forget(form);
  });
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form.act");
    if (form) forget(form);
  });
  const forget = (form) => { const result = $(".result", form); if (result && result.children.length) result.replaceChildren(); };

  // --- live: keep the focus where it was, say whether the stream is there, leave a hidden page alone --------------
  let focused = null;
  document.addEventListener("htmx:beforeSwap", () => remember());
  document.addEventListener("htmx:sseBeforeMessage", () => remember());
  const remember = () => {
    const at = document.activeElement;
    focused = at && at.dataset && at.dataset.row !== undefined ? at.dataset.row : null;
  };
  const refocus = () => {
    if (focused !== null && document.activeElement === document.body) {
      const link = rows().find((row) => row.dataset.row === focused);
      if (link) link.focus({ preventScroll: true });
    }
    focused = null;
    fit();
  };
  document.addEventListener("htmx:sseMessage", refocus);
  document.addEventListener("htmx:afterSwap", refocus);
  const live = (state, word) => all(".live").forEach((sign) => { sign.dataset.state = state; sign.textContent = word; });
  document.addEventListener("htmx:sseOpen", () => live("on", "live"));
  document.addEventListener("htmx:sseError", () => live("off", "not live"));
  // A browser keeps six connections to a server: a page that nobody looks at gives its stream back.
  const HIDDEN_MS = 3000;
  const sources = new Set();
  class Source extends EventTarget {
    constructor(url) { super(); this.url = url; this.names = new Set(); this.connect(); sources.add(this); }
    connect() {
      this.inner = new EventSource(this.url);
      this.inner.onopen = (event) => this.onopen && this.onopen(event);
      this.inner.onerror = (event) => this.onerror && this.onerror(event);
      this.names.forEach((name) => this.forward(name));
    }
    forward(name) { this.inner.addEventListener(name, (event) => this.dispatchEvent(new MessageEvent(name, { data: event.data }))); }
    addEventListener(name, listener) {
      super.addEventListener(name, listener);
      if (this.names.has(name)) return;
      this.names.add(name);
      this.forward(name);
    }
    get readyState() { return this.inner.readyState; }
    close() { sources.delete(this); this.inner.close(); }
    pause() { this.inner.close(); }
    resume() { if (this.inner.readyState === EventSource.CLOSED) this.connect(); }
  }
  htmx.createEventSource = (url) => new Source(url);
  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => sources.forEach((source) => source.pause()), HIDDEN_MS);
    else sources.forEach((source) => source.resume());
  });
  document.addEventListener("htmx:configRequest", (event) => {
    if (document.hidden && event.detail.elt.matches(".counts")) { event.preventDefault(); return; }
    if (event.detail.verb !== "get") return;
    const given = event.detail.parameters;
    for (const name of [...new Set(Object.keys(given))]) if (given[name] === "") delete given[name];
  });
  document.addEventListener("htmx:responseError", () => all("[data-failed]").forEach((note) => { note.hidden = false; }));

  const begin = () => { nameTheme(); all("form.act").forEach(showFields); };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
