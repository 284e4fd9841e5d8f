// Everything on the page works without this: it adds sorting, the time under the pointer in rasters, and the current section.
(() => {
  const clock = (t) => {
    const s = Math.floor(t), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    const tail = String(s % 60).padStart(2, "0") + "." + Math.floor((t - s) * 10);
    return h ? `${h}:${String(m).padStart(2, "0")}:${tail}` : `${m}:${tail}`;
  };
  const spans = (path) => [...(path.getAttribute("d") || "").matchAll(/M([\d.]+) [\d.]+h([\d.]+)/g)].map((m) => [+m[1], +m[1] + +m[2]]);
  const covers = (path, u) => path && (path.spans ??= spans(path)).some(([a, b]) => u >= a && u < b);

  for (const svg of document.querySelectorAll("svg[data-seconds]")) {
    const field = svg.parentElement, cursor = document.createElement("div"), tip = document.createElement("div");
    cursor.className = "cursor"; tip.className = "tip"; cursor.hidden = tip.hidden = true;
    field.append(cursor, tip);
    const lanes = [...svg.querySelectorAll("g[data-name]")];
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      if (share < 0 || share >= 1) return;
      const active = (kind) => lanes.filter((g) => covers(g.querySelector("." + kind), share * 1000)).map((g) => g.dataset.name).join(", ");
      const said = [clock(share * +svg.dataset.seconds)];
      if (svg.dataset.annotated) said.push("annotated: " + (active("truth") || "none"));
      said.push("predicted: " + (covers(svg.querySelector(".unseen"), share * 1000) ? "animal not seen" : active("predicted") || "none"));
      tip.replaceChildren(...said.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
      cursor.hidden = tip.hidden = false;
      cursor.style.cssText = `left:${share * box.width}px;height:${box.height}px`;
      tip.style.top = box.height + 4 + "px";
      tip.style.left = Math.max(0, Math.min(share * box.width + 8, box.width - tip.offsetWidth)) + "px";
    });
    svg.addEventListener("pointerleave", () => { cursor.hidden = tip.hidden = true; });
  }

  for (const place of document.querySelectorAll(".click")) {
    const picture = place.querySelector("img"), said = place.nextElementSibling, here = document.createElement("span");
    const command = said.textContent;
    here.className = "here"; here.hidden = true;
    place.append(here);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
      const at = [Math.min(+place.dataset.width - 1, Math.floor(across * place.dataset.width)), Math.min(+place.dataset.height - 1, Math.floor(down * place.dataset.height))];
      said.textContent = command.replace(/X,Y(?='?\s*$)/, at.join(","));
      here.hidden = false;
      here.style.cssText = `left:${100 * across}%;top:${100 * down}%`;
      const range = document.createRange();
      range.selectNodeContents(said);
      getSelection().removeAllRanges(); getSelection().addRange(range);
    });
  }

  for (const table of document.querySelectorAll("table[data-sort]")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes); head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent.trim(); };
        const order = (a, b) => {
          const x = value(a), y = value(b), p = parseFloat(x), q = parseFloat(y);
          if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1; // cells without a number stay below
          return sign * (isNaN(p) ? x.localeCompare(y) : p - q);
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  const links = new Map([...document.querySelectorAll("nav.toc a")].map((a) => [a.hash.slice(1), a]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) {
        links.forEach((a) => a.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    document.querySelectorAll("main section[id]").forEach((s) => seen.observe(s));
  }
})();
