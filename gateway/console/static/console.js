// The console's behaviour: updates of an open page, files that are dropped, and uploads before a registration.
"use strict";
(() => {
  const connection = () => document.getElementById("connection");

  function say(text) {
    const place = connection();
    place.hidden = !text;
    if (place.textContent !== text) place.textContent = text;
  }

  // -- updates ---------------------------------------------------------------------------------------------------------
  const keep = {
    beforeNodeMorphed: (old, next) => {
      if (old.nodeName !== "FIGURE" || next.nodeName !== "FIGURE") return true;
      if (old.dataset.plot !== next.dataset.plot) {
        old.dataset.plot = next.dataset.plot;
        infaasPlots.draw(old);
      }
      return false;
    },
    beforeAttributeUpdated: (name, node) => !(name === "open" && node.nodeName === "DETAILS"),
  };

  // Gives each row and list item an id by its header or time. Without ids, a row that comes first would take the place of
  // the one below it, with its focus and its open details.
  function identify(name, place) {
    const seen = new Map();
    for (const row of place.querySelectorAll("tbody tr, ol > li")) {
      const head = row.querySelector("th[scope=row], time");
      if (!head) continue; // the legend of a plot
      const key = head.dateTime || head.textContent;
      seen.set(key, (seen.get(key) || 0) + 1);
      row.id = `${name} ${key} ${seen.get(key)}`.replace(/\s+/g, "-");
    }
  }

  function update(event) {
    say("");
    for (const [name, html] of Object.entries(JSON.parse(event.data))) {
      const place = document.getElementById(`live-${name}`);
      if (!place) continue;
      const next = Object.assign(document.createElement("template"), { innerHTML: html }).content;
      identify(name, place);
      identify(name, next);
      Idiomorph.morph(place, next, { morphStyle: "innerHTML", callbacks: keep });
      htmx.process(place);
    }
    infaasPlots.drawAll();
    document.body.dataset.updates = String(Number(document.body.dataset.updates || 0) + 1);
  }

  let source = null;
  let again = 0;

  function listen() {
    source = new EventSource(location.href);
    source.addEventListener("update", update);
    source.addEventListener("open", () => { say(""); });
    source.addEventListener("trouble", (event) => say(`Not up to date: ${JSON.parse(event.data).text}`));
    source.addEventListener("end", () => { stop(); location.reload(); });
    source.addEventListener("error", () => {
      say("The gateway does not answer. The page shows the last known state and tries again.");
      if (source?.readyState !== EventSource.CLOSED) return; // the browser reconnects by itself
      stop();
      again = setTimeout(check, 3000);
    });
  }

  async function check() { // a stream that was refused: the session may have ended
    const answer = await fetch(location.href, { headers: { Accept: "application/json" } }).catch(() => null);
    if (answer?.status === 401) location.reload();
    else if (!document.hidden) listen();
  }

  function stop() {
    clearTimeout(again);
    source?.close();
    source = null;
  }

  // -- files -----------------------------------------------------------------------------------------------------------
  function preview(input) {
    const image = input.closest("[data-drop]")?.querySelector("img.preview");
    if (!image) return;
    if (image.src) URL.revokeObjectURL(image.src);
    image.hidden = !input.files.length;
    if (input.files.length) image.src = URL.createObjectURL(input.files[0]);
  }

  function droppable(place) {
    const input = place.querySelector("input[type=file]");
    place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("over");
      if (!event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      preview(input);
    });
    input.addEventListener("change", () => preview(input));
  }

  // -- uploads ---------------------------------------------------------------------------------------------------------
  async function hashed(file) {
    if (!crypto.subtle) throw new Error("browsers hash files over https or on this machine only: use `infaas register`");
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function send(file, hash, token, progress) {
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      request.open("PUT", `/console/uploads/${hash}`);
      request.setRequestHeader("X-Infaas-Form", token);
      request.setRequestHeader("HX-Request", "true"); // errors come as fragments
      request.upload.addEventListener("progress", (event) => progress(event.loaded));
      request.addEventListener("load", () => {
        if (request.status < 300) return done();
        const page = new DOMParser().parseFromString(request.responseText, "text/html");
        failed(new Error(page.body.textContent.trim() || `status ${request.status}`));
      });
      request.addEventListener("error", () => failed(new Error("the gateway does not answer")));
      request.send(file);
    });
  }

  async function upload(form) {
    const inputs = [...form.querySelectorAll("input[data-file]")].filter((one) => one.files.length);
    const bar = form.querySelector("progress.sending");
    const text = form.querySelector(".sent");
    const total = inputs.reduce((sum, one) => sum + one.files[0].size, 0);
    bar.hidden = false;
    bar.max = Math.max(total, 1);
    let before = 0;
    for (const input of inputs) {
      const file = input.files[0];
      text.textContent = `Sending ${file.name}`;
      const hash = await hashed(file);
      await send(file, hash, form.elements.token.value, (loaded) => { bar.value = before + loaded; });
      before += file.size;
      let field = form.querySelector(`input[type=hidden][name="${input.dataset.file}"]`);
      if (!field) {
        field = Object.assign(document.createElement("input"), { type: "hidden", name: input.dataset.file });
        form.append(field);
      }
      field.value = `${hash} ${file.name}`;
    }
    text.textContent = "Sent";
  }

  function confirmRequest(event) {
    const form = event.target;
    if (!form.matches("form[data-upload]")) return;
    event.preventDefault();
    const button = form.querySelector("button.main");
    button.disabled = true;
    upload(form)
      .then(() => event.detail.issueRequest(true))
      .catch((error) => {
        form.querySelector(".sent").textContent = "";
        const problem = Object.assign(document.createElement("p"), { className: "problem", textContent: `Not sent: ${error.message}` });
        document.getElementById("outcome").replaceChildren(problem);
      })
      .finally(() => { button.disabled = false; });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-drop]").forEach(droppable);
    document.body.addEventListener("htmx:confirm", confirmRequest);
    document.body.addEventListener("htmx:sendError", () => {
      const problem = Object.assign(document.createElement("p"), { className: "problem", textContent: "Not done: the gateway does not answer." });
      document.getElementById("outcome").replaceChildren(problem);
    });
    if (!("live" in document.body.dataset)) return;
    if (!document.hidden) listen();
    document.addEventListener("visibilitychange", () => { // a hidden page costs nothing
      if (document.hidden) stop();
      else if (!source) listen();
    });
    addEventListener("pagehide", stop);
  });
})();
