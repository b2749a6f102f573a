// Makes pages live; every page works without it. Three parts: patch what changed when something happens, follow a log,
// keys. The server renders all HTML; nothing here builds markup from text.
(() => {
  "use strict";
  const body = document.body, html = document.documentElement;
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  all(".needs-script, .keys").forEach((element) => { element.hidden = false; });

  // Times that move by themselves.
  const units = (seconds) => {
    const two = (n) => String(n).padStart(2, "0");
    if (seconds < 60) return `${seconds}s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ${two(Math.floor(seconds % 3600 / 60))}m`;
    return `${Math.floor(seconds / 86400)}d ${Math.floor(seconds % 86400 / 3600)}h`;
  };
  const before = (seconds) => {
    if (seconds < 10) return "just now";
    if (seconds < 60) return `${seconds} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    return null;
  };
  // The server's clock counts, not this machine's.
  const skew = Date.parse(find("[data-now]")?.dataset.now ?? "") - Date.now() || 0;
  const tick = () => {
    const now = Date.now() + skew;
    for (const element of all("time[data-ago], time[data-since]")) {
      const seconds = Math.max(0, Math.floor((now - Date.parse(element.dateTime)) / 1000));
      const text = "since" in element.dataset ? units(seconds) : before(seconds);
      if (text && element.textContent !== text) element.textContent = text;
    }
  };
  setInterval(tick, 1000);

  // Patching: fetch the same page again and replace the parts marked live that differ.
  let pending = null, fetching = false, again = false;
  const offline = (is) => html.classList.toggle("is-offline", is);
  const refresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of all("[data-live][id]")) {
          const fresh = next.getElementById(part.id);
          if (!fresh) { if (part.textContent.trim()) part.replaceChildren(); continue; }
          if (fresh.outerHTML === part.dataset.was) continue;
          const open = new Map(all("details[id]", part).map((element) => [element.id, element.open]));
          const was = fresh.outerHTML, focus = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
          for (const element of all("details[id]", fresh)) if (open.has(element.id)) element.open = open.get(element.id);
          const imported = document.importNode(fresh, true);
          part.replaceWith(imported);
          imported.dataset.was = was;
          if (focus) all("a", imported).find((link) => link.getAttribute("href") === focus)?.focus();
        }
        for (const step of all("#steps > details", next)) {
          if (!document.getElementById(step.id)) find("#steps")?.append(document.importNode(step, true));
        }
        document.title = next.title;
        offline(false);
      }
    } catch { offline(true); }
    fetching = false;
    if (again) { again = false; soon(); }
  };
  addEventListener("offline", () => offline(true));
  addEventListener("online", () => soon());
  const soon = () => { if (!pending) pending = setTimeout(() => { pending = null; refresh(); }, 250); };
  if (body.dataset.liveEvents && window.EventSource) {
    let broken = false;
    const events = new EventSource(body.dataset.liveEvents);
    events.addEventListener("update", soon);
    events.addEventListener("open", () => { if (broken) soon(); broken = false; offline(false); });
    events.addEventListener("error", () => { broken = true; offline(true); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
  }

  // Logs: sections load when opened; the tail is followed until the reader scrolls up.
  const load = async (section) => {
    const from = section.dataset.load;
    if (!from) return;
    delete section.dataset.load;
    try {
      const answer = await fetch(from, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(answer.statusText);
      const fragment = new DOMParser().parseFromString(await answer.text(), "text/html");
      find(".log", section).replaceChildren(...[...fragment.body.childNodes].map((node) => document.importNode(node, true)));
    } catch { section.dataset.load = from; section.open = false; }
  };
  document.addEventListener("toggle", (event) => { if (event.target.open && event.target.dataset?.load) load(event.target); }, true);
  const times = find("#times");
  times?.addEventListener("change", () => html.classList.toggle("times", times.checked));

  const steps = find("#steps[data-follow]"), follow = find("#follow");
  if (steps && window.EventSource) {
    const groups = new Map();
    const atEnd = () => innerHeight + scrollY >= html.scrollHeight - 60;
    let scrolling = false;
    const toEnd = () => { scrolling = true; scrollTo(0, html.scrollHeight); requestAnimationFrame(() => { scrolling = false; }); };
    addEventListener("wheel", (event) => { if (follow && event.deltaY < 0) follow.checked = false; }, { passive: true });
    addEventListener("touchmove", () => { if (follow && !atEnd()) follow.checked = false; }, { passive: true });
    addEventListener("scroll", () => { if (follow && !scrolling && atEnd()) follow.checked = true; }, { passive: true });
    follow?.addEventListener("change", () => { if (follow.checked) toEnd(); });
    const section = (step) => document.getElementById(`step-${step}`);
    const source = new EventSource(steps.dataset.follow);
    source.addEventListener("lines", (event) => {
      for (const [step, kind, markup] of JSON.parse(event.data)) {
        const part = section(step);
        if (!part) { soon(); continue; }
        if (part.dataset.load) continue;
        const log = find(".log", part);
        if (!part.open && part.dataset.touched === undefined) { part.open = true; }
        const holder = document.createElement("template");
        holder.innerHTML = markup;
        const line = holder.content.firstElementChild;
        if (kind === "endgroup") { groups.delete(step); continue; }
        if (!line) continue;
        if (document.getElementById(line.id)) continue;
        if (kind === "group") {
          log.append(line);
          groups.set(step, line);
        } else {
          let group = groups.get(step);
          if (group === undefined) { const last = log.lastElementChild; if (last?.matches("details[data-open]")) group = last; }
          (group ?? log).append(line);
        }
        while (log.childElementCount > 5000) log.firstElementChild.remove();
      }
      if (follow?.checked) toEnd();
    });
    source.addEventListener("step", soon);
    source.addEventListener("end", () => { source.close(); steps.removeAttribute("data-follow"); soon(); });
    source.addEventListener("error", () => offline(true));
    source.addEventListener("open", () => offline(false));
    steps.addEventListener("click", (event) => { const summary = event.target.closest("summary"); if (summary?.parentElement.matches("#steps > details")) summary.parentElement.dataset.touched = ""; });
    if (follow && !location.hash) toEnd();
  }

  // A link to a line opens what hides it.
  const reveal = () => {
    const line = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!line) return;
    for (let part = line; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    line.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Keys.
  const help = () => {
    let dialog = find("#keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "keys";
      dialog.setAttribute("aria-label", "Keys");
      const list = document.createElement("ul");
      for (const [key, what] of [["/", "search"], ["j  k", "next, previous"], ["Enter", "open"], ["f", "follow the log"], ["t", "time stamps"], ["e", "first error"], ["?", "this help"]]) {
        const item = document.createElement("li"), name = document.createElement("kbd");
        name.textContent = key;
        item.append(what, name);
        list.append(item);
      }
      dialog.append(list);
      dialog.addEventListener("click", () => dialog.close());
      body.append(dialog);
    }
    dialog.open ? dialog.close() : dialog.showModal();
  };
  const move = (by) => {
    const items = all("main tbody tr, main .rows > li, .jobrow > details > summary, #steps > details > summary").filter((item) => item.offsetParent);
    if (!items.length) return;
    const at = items.findIndex((item) => item.classList.contains("cursor"));
    const next = items[Math.min(items.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : items.length - 1) : at + by))];
    items[at]?.classList.remove("cursor");
    next.classList.add("cursor");
    next.scrollIntoView({ block: "nearest" });
    (next.matches("summary") ? next : find("a", next) ?? next).focus({ preventScroll: true });
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const act = {
      "/": () => (find("#find") ?? find("#q"))?.focus(),
      j: () => move(1), k: () => move(-1),
      f: () => { if (follow) { follow.checked = !follow.checked; follow.dispatchEvent(new Event("change")); } },
      t: () => { if (times) { times.checked = !times.checked; times.dispatchEvent(new Event("change")); } },
      e: () => (find("#first-error") ?? find(".excerpt a"))?.click(),
      "?": help,
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
