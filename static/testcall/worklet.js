// A phone in the audio thread: microphone in, mu-law at 8 kHz out in frames of 20 ms; and what the
// engine sends, back to sound. Messages to here: Uint8Array (audio to play), {mark}, {clear},
// {muted}. Messages from here: {frame, level}, {mark}, {heard: level}.
"use strict";

const LINE_RATE = 8000;
const FRAME = 160; // bytes: 20 ms
const JITTER_MS = 60; // what is kept before playing begins
const WAIT_MS = 120; // the longest wait for that much

/** Another sample rate, by a windowed sinc that is a low-pass for the lower rate of the two. */
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.cutoff = 0.9 * Math.min(1, to / from);
    this.half = Math.ceil(8 / this.cutoff); // input samples on each side
    this.kernel = new Float32Array(this.half * Resampler.FINE + 2);
    for (let i = 0; i < this.kernel.length; i++) {
      const x = i / Resampler.FINE;
      const t = Math.PI * x * this.cutoff;
      const sinc = t === 0 ? 1 : Math.sin(t) / t;
      const window = x >= this.half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / this.half);
      this.kernel[i] = this.cutoff * sinc * window;
    }
    this.reset();
  }

  reset() {
    this.kept = new Float32Array(this.half * 2); // silence before the first sample
    this.at = this.half; // where the next output sample lies in `kept`
  }

  /** Take samples; return those of the other rate that can be made by now. */
  process(samples) {
    const input = new Float32Array(this.kept.length + samples.length);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const output = [];
    while (this.at + this.half < input.length) {
      const first = Math.ceil(this.at - this.half);
      const last = Math.floor(this.at + this.half);
      let sum = 0;
      for (let i = Math.max(first, 0); i <= last; i++) {
        sum += input[i] * this.kernel[Math.round(Math.abs(i - this.at) * Resampler.FINE)];
      }
      output.push(sum);
      this.at += this.step;
    }
    const used = Math.max(0, Math.floor(this.at) - this.half);
    this.kept = input.slice(used);
    this.at -= used;
    return output;
  }
}
Resampler.FINE = 64; // steps of the kernel in a sample

/** Return the G.711 mu-law byte of a sample from -1 to 1. */
function toMulaw(sample) {
  const value = Math.max(-32635, Math.min(32635, Math.round(sample * 32768)));
  const sign = value < 0 ? 0x80 : 0;
  const magnitude = Math.abs(value) + 132;
  const exponent = 31 - Math.clz32(magnitude) - 7;
  return ~(sign | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0f)) & 0xff;
}

const FROM_MULAW = Float32Array.from({ length: 256 }, (_, index) => {
  const byte = ~index & 0xff;
  const magnitude = ((((byte & 0x0f) << 3) + 132) << ((byte >> 4) & 7)) - 132;
  return (byte & 0x80 ? -magnitude : magnitude) / 32768;
});

class Phone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.toLine = new Resampler(sampleRate, LINE_RATE);
    this.fromLine = new Resampler(LINE_RATE, sampleRate);
    this.frame = new Uint8Array(FRAME);
    this.filled = 0;
    this.level = 0;
    this.muted = false;
    this.queue = []; // Uint8Array, or the name of a mark
    this.queued = 0; // bytes in there
    this.current = []; // samples that are being played
    this.played = 0; // of them
    this.isPlaying = false;
    this.waited = 0; // ms, for the jitter buffer to fill
    this.heard = 0;
    this.blocks = 0;
    this.port.onmessage = (event) => this.receive(event.data);
  }

  receive(message) {
    if (message instanceof Uint8Array) {
      this.queue.push(message);
      this.queued += message.length;
    } else if ("mark" in message) {
      this.queue.push(message.mark);
    } else if ("muted" in message) {
      this.muted = message.muted;
    } else if (message.clear) {
      const marks = this.queue.filter((item) => typeof item === "string");
      this.queue = [];
      this.queued = 0;
      this.current = [];
      this.played = 0;
      this.isPlaying = false;
      this.fromLine.reset();
      for (const mark of marks) this.port.postMessage({ mark });
    }
  }

  process(inputs, outputs) {
    const output = outputs[0][0];
    const input = inputs[0][0];
    this.listen(input && !this.muted ? input : new Float32Array(output.length));
    this.play(output);
    for (const channel of outputs[0].slice(1)) channel.set(output);
    if (++this.blocks % 32 === 0) {
      this.port.postMessage({ heard: this.heard });
      this.heard = 0;
    }
    return true;
  }

  listen(samples) {
    for (const sample of this.toLine.process(samples)) {
      this.level = Math.max(this.level, Math.abs(sample));
      this.frame[this.filled++] = toMulaw(sample);
      if (this.filled === FRAME) {
        this.port.postMessage({ frame: this.frame, level: this.level }); // a copy
        this.filled = 0;
        this.level = 0;
      }
    }
  }

  play(output) {
    if (!this.isPlaying && !this.mayBegin(output.length)) return;
    for (let i = 0; i < output.length; i++) {
      if (this.played === this.current.length && !this.next()) {
        this.isPlaying = false;
        return;
      }
      output[i] = this.current[this.played++];
      this.heard = Math.max(this.heard, Math.abs(output[i]));
    }
  }

  /** Whether there is enough to play without a gap, or all that will come. */
  mayBegin(samples) {
    if (!this.queue.length) {
      this.waited = 0;
      return false;
    }
    this.waited += (samples / sampleRate) * 1000;
    const isWhole = typeof this.queue[this.queue.length - 1] === "string";
    const isEnough = this.queued >= (JITTER_MS * LINE_RATE) / 1000;
    this.isPlaying = isWhole || isEnough || this.waited >= WAIT_MS;
    return this.isPlaying;
  }

  /** Have samples in `current`; false if there are none. Returns the marks that come first. */
  next() {
    while (this.queue.length) {
      const item = this.queue[0];
      if (typeof item === "string") {
        this.queue.shift();
        this.port.postMessage({ mark: item });
        continue;
      }
      const piece = item.subarray(0, FRAME); // not a minute at once
      if (piece.length === item.length) this.queue.shift();
      else this.queue[0] = item.subarray(FRAME);
      this.queued -= piece.length;
      this.current = this.fromLine.process(Float32Array.from(piece, (byte) => FROM_MULAW[byte]));
      this.played = 0;
      if (this.current.length) return true;
    }
    return false;
  }
}

registerProcessor("phone", Phone);
