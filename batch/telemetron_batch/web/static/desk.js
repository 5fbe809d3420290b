// What the pages do better with a script; everything works without it too.
"use strict";

// Drop a file anywhere on its card; a file that is too large is refused before it travels.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const status = form.querySelector("[data-drop-status]");
  const area = form.querySelector(".drop");
  const isTooLarge = () => [...input.files].some((file) => file.size > Number(input.dataset.max));
  const show = () => {
    status.textContent = isTooLarge() ? input.dataset.tooLarge : "";
    status.classList.toggle("bad", isTooLarge());
  };
  input.addEventListener("change", show);
  form.addEventListener("submit", (event) => {
    show();
    if (isTooLarge()) event.preventDefault();
    else status.textContent = status.dataset.sending;
  });
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); area.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => area.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
  // A file that misses the card must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
}

// Somebody who types or scans for long is still there: tell the server, at most every five minutes.
{
  let told = Date.now();
  addEventListener("input", () => {
    if (Date.now() - told < 300_000) return;
    told = Date.now();
    fetch("/session", { cache: "no-store" }).catch(() => {});
  });
}

// What was scanned stays in this tab until it has arrived, even if one must sign in again.
const SCANNED = "scanned";
if (location.pathname.startsWith("/uploads/")) sessionStorage.removeItem(SCANNED);

// Scan into a box: count, and beep twice for what was scanned before.
for (const form of document.querySelectorAll("form[data-scan]")) {
  const box = form.querySelector("textarea");
  const status = form.querySelector("[data-scan-status]");
  let audio, known = 0;
  const beep = (at) => {
    try {
      audio ??= new AudioContext();
      const tone = audio.createOscillator(), volume = audio.createGain();
      tone.frequency.value = 880;
      volume.gain.value = 0.15;
      tone.connect(volume).connect(audio.destination);
      tone.start(audio.currentTime + at);
      tone.stop(audio.currentTime + at + 0.12);
    } catch { /* a device without sound still shows it */ }
  };
  const look = () => {
    const whole = box.value.slice(0, box.value.lastIndexOf("\n") + 1); // the last line may still be typed
    const seen = new Set(), twice = new Set();
    let doubles = 0, count = 0;
    for (const line of box.value.split("\n")) if (line.trim()) count += 1;
    for (const line of whole.split("\n")) {
      const serial = line.trim();
      if (!serial) continue;
      if (seen.has(serial)) { doubles += 1; twice.add(serial); }
      seen.add(serial);
    }
    if (doubles > known) { beep(0); beep(0.2); document.dispatchEvent(new CustomEvent("desk-beep")); }
    known = doubles;
    const counted = count === 1 ? status.dataset.countOne : status.dataset.count.replace("{count}", count);
    const named = twice.size ? " · " + status.dataset.twice.replace("{serials}", [...twice].slice(-5).join(", ")) : "";
    sessionStorage.setItem(SCANNED, box.value);
    status.textContent = count ? counted + named : "";
    status.classList.toggle("bad", twice.size > 0);
  };
  box.addEventListener("input", look);
  box.value ||= sessionStorage.getItem(SCANNED) ?? "";
  look();
}

// Show above the first rows which column is what.
for (const form of document.querySelectorAll("form[data-columns]")) {
  const heads = [...document.querySelectorAll(".sample th[data-column]")];
  const selects = [...form.querySelectorAll("select[data-field]")];
  const isByColumn = () => form.elements.action.value === "";
  const show = () => {
    for (const head of heads) {
      const fields = selects.filter((one) => one.value === head.dataset.column && (one.name !== "column.action" || isByColumn()));
      head.querySelector(".tag").textContent = fields.map((one) => one.dataset.field).join(", ");
    }
  };
  const action = form.elements["column.action"];
  action.addEventListener("change", () => { if (action.value) form.elements.action.value = ""; });
  form.addEventListener("change", show);
}

// A page that waits goes on by itself.
if (document.querySelector("[data-reload]")) setTimeout(() => location.reload(), 1000);

// Follow a run. A screen reader hears a change of its state, not each number.
for (const card of document.querySelectorAll("[data-events]")) {
  const place = card.querySelector("[data-progress]"), announce = card.querySelector("[data-announce]");
  const source = new EventSource(card.dataset.events);
  source.addEventListener("progress", (event) => {
    const isOpen = place.querySelector("details.log")?.open;
    const hadFocus = place.querySelector("details.log summary") === document.activeElement;
    place.innerHTML = event.data; // made by the server, which escapes all texts
    const log = place.querySelector("details.log");
    if (log) log.open = Boolean(isOpen);
    if (log && hadFocus) log.querySelector("summary").focus();
    const now = place.querySelector(".now")?.textContent.replace(/\d[\d.,]*/g, "").trim() ?? "";
    if (announce.dataset.last !== now) {
      announce.dataset.last = now;
      announce.textContent = place.querySelector(".now").textContent;
    }
  });
  source.addEventListener("end", () => { source.close(); location.reload(); });
}
