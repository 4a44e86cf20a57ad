// A test call: this page is the phone and the telephone network. It speaks Twilio's media stream
// protocol to the engine, and a few messages more that the engine has for test calls alone: `text`
// to it, `transcript` and `after` from it.
"use strict";

const form = document.getElementById("test-call-form");
if (form) {
  const status = document.getElementById("test-call-status");
  let call = null;

  for (const button of form.querySelectorAll("button")) button.disabled = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (call) return;
    const withMicrophone = event.submitter?.value !== "text";
    setBusy(true);
    document.getElementById("test-call-panel").hidden = true; // the last call's
    status.replaceChildren(notice("note", "Calling your backend…"));
    let sound = null;
    try {
      sound = await Sound.open(status.dataset.worklet, withMicrophone);
      const ticket = await ring();
      if (ticket) {
        call = new TestCall(ticket, sound, () => { call = null; setBusy(false); });
        return;
      }
    } catch (error) {
      status.replaceChildren(notice("bad", reasonOf(error)));
    }
    sound?.close();
    setBusy(false);
  });

  /** Have the call begin; return what opens the media socket, or null if there is no call. */
  async function ring() {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (response.redirected) throw new Error("Your session has ended. Reload the page to sign in.");
    if (response.status >= 500) {
      throw new Error("The call could not be started. Reload the page and try again.");
    }
    const text = await response.text();
    if (response.status === 403 && response.headers.get("Content-Type")?.startsWith("text/plain")) {
      throw new Error(text); // why an operator who views as a customer may not
    }
    if (response.status === 404 || response.status === 403) {
      throw new Error("The call could not be started. Reload the page and try again.");
    }
    status.innerHTML = text; // from our server, which escapes
    const wrong = status.querySelector("[role=alert] a")?.hash; // the first wrong field
    if (wrong) document.querySelector(wrong)?.focus();
    const ticket = status.querySelector("#test-call-ticket");
    const data = ticket && { ...ticket.dataset };
    ticket?.remove();
    htmx.process(status);
    return data;
  }

  function setBusy(isBusy) {
    for (const button of form.querySelectorAll("button")) button.disabled = isBusy;
  }

  addEventListener("pagehide", () => call?.leave());
  addEventListener("beforeunload", (event) => { if (call) event.preventDefault(); });
}

function reasonOf(error) {
  switch (error.name) {
    case "NotAllowedError": return "Access to the microphone was denied. Allow it, or call with text instead.";
    case "NotFoundError": return "No microphone found. You can call with text instead.";
    default: return error.message;
  }
}

function notice(kind, text) {
  const box = document.createElement("p");
  box.className = `notice ${kind}`;
  box.textContent = text;
  return box;
}

/** Microphone and speaker. Set `onFrame`, `onMark`. */
class Sound {
  static async open(worklet, withMicrophone) {
    if (!window.AudioWorkletNode) {
      throw new Error("This browser can’t play audio on this page. Open the page over HTTPS.");
    }
    const sound = new Sound();
    try {
      if (withMicrophone) {
        sound.microphone = await navigator.mediaDevices.getUserMedia({
          audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
        });
      }
      sound.context = new AudioContext({ latencyHint: "interactive" });
      await sound.context.audioWorklet.addModule(worklet);
      await sound.context.resume();
      sound.node = new AudioWorkletNode(sound.context, "phone", {
        numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1],
        channelCount: 1, channelCountMode: "explicit",
      });
      sound.node.port.onmessage = ({ data }) => sound.receive(data);
      sound.node.connect(sound.context.destination);
      if (sound.microphone) {
        sound.source = sound.context.createMediaStreamSource(sound.microphone);
        sound.source.connect(sound.node);
      }
    } catch (error) {
      sound.close();
      throw error;
    }
    return sound;
  }

  receive(message) {
    if (message.frame) this.onFrame?.(message.frame, message.level);
    else if ("mark" in message) this.onMark?.(message.mark);
    else if ("heard" in message) this.onHeard?.(message.heard);
  }

  play(bytes) { this.node.port.postMessage(bytes); }
  mark(name) { this.node.port.postMessage({ mark: name }); }
  clear() { this.node.port.postMessage({ clear: true }); }
  mute(muted) { this.node.port.postMessage({ muted }); }

  close() {
    this.onFrame = this.onMark = this.onHeard = null;
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
  }
}

class TestCall {
  constructor(ticket, sound, onEnd) {
    this.ticket = ticket;
    this.sound = sound;
    this.onEnd = onEnd;
    this.streamSid = "MZ" + hex(16);
    this.sequence = 0;
    this.chunk = 0;
    this.isOpen = false;
    this.isOver = false;
    this.wasOpen = false;
    this.controls = new AbortController();
    this.socket = new WebSocket(ticket.url);
    this.socket.onopen = () => this.opened();
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = () => this.closed();
    this.showPanel();
  }

  // The media stream

  opened() {
    this.isOpen = this.wasOpen = true;
    this.socket.send(JSON.stringify({ event: "connected", protocol: "Call", version: "1.0.0" }));
    this.send("start", {
      start: {
        streamSid: this.streamSid,
        accountSid: this.ticket.accountSid,
        callSid: this.ticket.callSid,
        tracks: ["inbound"],
        customParameters: { ticket: this.ticket.ticket },
        mediaFormat: { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 },
      },
    });
    this.ticket.ticket = ""; // it was good once
    this.sound.onFrame = (frame, level) => this.sendFrame(frame, level);
    this.sound.onMark = (name) => this.send("mark", { mark: { name } });
    this.sound.onHeard = (level) => { this.part("level-out").value = level; };
    this.state("note", "Waiting for the agent…");
  }

  sendFrame(frame, level) {
    this.part("level-in").value = level;
    this.chunk += 1;
    this.send("media", {
      media: {
        track: "inbound",
        chunk: String(this.chunk),
        timestamp: String((this.chunk - 1) * 20),
        payload: btoa(String.fromCharCode(...frame)),
      },
    });
  }

  send(event, content) {
    if (!this.isOpen) return;
    this.sequence += 1;
    this.socket.send(JSON.stringify({
      event, sequenceNumber: String(this.sequence), ...content, streamSid: this.streamSid,
    }));
  }

  receive(message) {
    switch (message.event) {
      case "media":
        this.state("good", "Connected");
        this.sound.play(Uint8Array.from(atob(message.media.payload), (c) => c.charCodeAt(0)));
        break;
      case "mark": this.sound.mark(message.mark.name); break;
      case "clear": this.sound.clear(); break;
      case "transcript": this.showTranscript(message.transcript); break;
      case "after": this.showAfter(message.after); break;
    }
  }

  hangUp() {
    if (this.isOver) return;
    this.send("stop", {
      stop: { accountSid: this.ticket.accountSid, callSid: this.ticket.callSid },
    });
    this.end("Hanging up…");
    // The engine closes when it has the last words; this is for an engine that does not.
    setTimeout(() => this.socket.close(), 5000);
  }

  leave() { this.socket.close(); }

  closed() {
    this.isOpen = false;
    if (!this.wasOpen) {
      document.getElementById("test-call-status").prepend(
        notice("bad", "The media connection could not be opened. Check that MEDIA_URL is reachable from your browser."));
      const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
      fetch(this.ticket.giveUp, { method: "POST", headers: { "X-CSRFToken": token } });
    }
    this.end("Ended");
    this.state("", "Ended");
    this.controls.abort();
    this.onEnd();
  }

  /** Nothing more is said; the last of the transcript may still come. */
  end(text) {
    if (this.isOver) return;
    this.isOver = true;
    this.sound.close();
    this.state("", text);
    for (const control of this.panel().querySelectorAll("button, input")) control.disabled = true;
    this.part("level-in").value = this.part("level-out").value = 0;
  }

  // What is seen

  panel() { return document.getElementById("test-call-panel"); }
  part(id) { return document.getElementById(id); }

  showPanel() {
    const signal = this.controls.signal;
    const listen = (id, kind, does) => this.part(id).addEventListener(kind, does, { signal });
    this.panel().hidden = false;
    for (const control of this.panel().querySelectorAll("button, input")) control.disabled = false;
    this.part("talk-transcript").replaceChildren();
    this.part("talk-after").replaceChildren();
    const mute = this.part("talk-mute");
    mute.disabled = !this.sound.microphone;
    mute.setAttribute("aria-pressed", "false");
    listen("talk-mute", "click", () => {
      const muted = mute.getAttribute("aria-pressed") !== "true";
      mute.setAttribute("aria-pressed", String(muted));
      mute.textContent = muted ? "Unmute" : "Mute";
      this.sound.mute(muted);
    });
    mute.textContent = "Mute";
    listen("talk-hang-up", "click", () => this.hangUp());
    listen("talk-form", "submit", (event) => {
      event.preventDefault();
      const field = this.part("talk-text");
      if (field.value.trim()) this.send("text", { text: { body: field.value } });
      field.value = "";
    });
    for (const key of this.panel().querySelectorAll("[data-key]")) {
      key.addEventListener("click", () => {
        this.send("dtmf", { dtmf: { track: "inbound_track", digit: key.dataset.key } });
      }, { signal });
    }
    this.state("note", "Connecting…");
    if (!this.sound.microphone) this.part("talk-text").focus();
  }

  state(kind, text) {
    const badge = this.part("talk-state");
    if (badge.textContent === text || (this.isOver && kind)) return;
    badge.className = `badge ${kind}`;
    badge.textContent = text;
  }

  showTranscript(lines) {
    const list = this.part("talk-transcript");
    list.replaceChildren(...lines.map((line) => {
      const item = document.createElement("li");
      const who = document.createElement("b");
      item.className = line.role;
      who.textContent = (line.role === "user" ? "You" : "Agent")
        + (line.interrupted ? ", interrupted" : "");
      item.append(who, line.text);
      return item;
    }));
    list.scrollTop = list.scrollHeight;
  }

  showAfter(after) {
    const box = this.part("talk-after");
    if (after.transfer) {
      box.replaceChildren(notice("note", `On a real call, the caller would be transferred to ${after.transfer}.`));
    } else if (after.say) {
      box.replaceChildren(notice("bad", `On a real call, the caller would hear: “${after.say}”`));
    }
    this.end("Ending…");
  }
}

function hex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}
