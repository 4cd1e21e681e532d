/**
 * The tracker: sends a web page's events to Feilun, in batches, until each is stored.
 *
 *   <script type="module">
 *     import { Tracker } from "https://feilun.example/feilun.js";
 *     const tracker = new Tracker();
 *     tracker.track("click", { user_id: 7, item_id: 42 });
 *   </script>
 *
 * An event gets its id and its time once, when it is tracked. It waits in memory and in
 * localStorage until the gateway has answered for it, so it may be sent twice and counts once.
 */

const BATCH_EVENTS = 100;
const BATCH_BYTES = 60_000; // what a beacon may carry is 64 KiB
const EVENT_BYTES = 20_000;
const QUEUE_EVENTS = 1_000;
const TIMEOUT = 10_000; // ms
const FIRST_PAUSE = 500; // ms, doubled after each failure, less a random half
const LONGEST_PAUSE = 60_000;
const TRIED_AGAIN = new Set([408, 425, 429, 500, 502, 503, 504]);
const HERE = new URL(import.meta.url).origin;

export class Tracker {
  /** The fields of each event: those that it must have, and others. Null: the gateway checks. */
  static events = null;

  #url;
  #type;
  #linger;
  #prefix;
  #queue = new Map(); // id to JSON, in the order of tracking
  #kept = new Set(); // ids that localStorage holds too
  #beaconed = new Set();
  #timer;
  #sending = null;
  #failures = 0;

  /**
   * @param {object} [options]
   * @param {string} [options.url] Where the gateway answers; by default where this file is from.
   * @param {number} [options.linger] How long (ms) an event waits for others.
   */
  constructor({ url = HERE, linger = 1_000 } = {}) {
    this.#url = `${url.replace(/\/+$/, "")}/api/events`;
    this.#linger = linger;
    this.#prefix = `feilun ${this.#url} `;
    // Plain text needs no preflight, which a page that is being left has no time for. The gateway
    // takes it from the origins that feilun.toml names, and from nobody else.
    const origin = globalThis.location?.origin;
    const same = origin === undefined || origin === new URL(this.#url).origin;
    this.#type = same ? "application/json" : "text/plain";
    this.#adopt();
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.#beacon();
    });
    globalThis.addEventListener?.("pagehide", () => this.#beacon());
    globalThis.addEventListener?.("online", () => this.#send());
    this.#schedule();
  }

  /** How many events wait to be stored. */
  get waiting() {
    return this.#queue.size;
  }

  /**
   * Take an event to be sent soon.
   *
   * @returns {string | null} Its id; null if it was not taken, which the console explains.
   */
  track(event, fields) {
    const now = Date.now();
    const id = uuid7(now);
    const wrong = mistake(event, fields);
    if (wrong) return refuse(wrong, event);
    let text;
    try {
      text = JSON.stringify({ event, id, time: now * 1_000, fields });
    } catch (error) {
      return refuse(error.message, event); // a circle, or a BigInt
    }
    if (bytes(text) > EVENT_BYTES) return refuse(`it has more than ${EVENT_BYTES} bytes`, event);
    if (this.#queue.size >= QUEUE_EVENTS) return refuse(`${QUEUE_EVENTS} wait already`, event);
    this.#queue.set(id, text);
    this.#keep(id, text);
    if (this.#queue.size >= BATCH_EVENTS && !this.#failures) this.#send();
    else this.#schedule();
    return id;
  }

  /** Send what waits now; resolves to how many events still wait. */
  async flush() {
    while (this.#queue.size && (await this.#send()));
    return this.#queue.size;
  }

  #schedule(delay = this.#linger) {
    if (this.#queue.size) this.#timer ??= setTimeout(() => this.#send(), delay);
  }

  /** Send one batch; resolves to whether it was answered. One is under way at a time. */
  #send() {
    this.#sending ??= this.#post().finally(() => (this.#sending = null));
    return this.#sending;
  }

  async #post() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const batch = this.#batch();
    if (!batch.length) return true;
    let answered = false;
    let pause = 0;
    try {
      const response = await fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": this.#type },
        body: body(batch),
        credentials: "omit",
        signal: AbortSignal.timeout(TIMEOUT),
      });
      if (response.ok) {
        answered = this.#settle(batch, (await response.json()).events);
      } else if (TRIED_AGAIN.has(response.status)) {
        pause = retryAfter(response);
      } else {
        console.error(`feilun: ${batch.length} events were refused:`, await response.text());
        for (const [id] of batch) this.#forget(id);
        answered = true;
      }
    } catch (error) {
      console.info(`feilun: ${batch.length} events wait:`, error.message);
    }
    if (answered) {
      this.#failures = 0;
      this.#schedule(this.#queue.size >= BATCH_EVENTS ? 0 : this.#linger);
    } else {
      const longest = Math.min(FIRST_PAUSE * 2 ** this.#failures++, LONGEST_PAUSE);
      this.#schedule(Math.max(pause, longest * (0.5 + Math.random() / 2)));
    }
    return answered;
  }

  /** Forget what was answered; an event without an answer goes on waiting. */
  #settle(batch, answers) {
    let settled = false;
    batch.forEach(([id], place) => {
      const answer = answers[place];
      if (answer?.id !== id) return;
      if (answer.status === "bad" || answer.status === "conflict") {
        console.warn(`feilun: event ${id} was refused: ${answer.reason}`);
      }
      this.#forget(id);
      settled = true;
    });
    return settled;
  }

  /** The oldest events that fit one request. */
  #batch(left = new Set()) {
    const batch = [];
    let size = 100;
    for (const [id, text] of this.#queue) {
      if (this.#kept.has(id) && storage((all) => all.getItem(this.#prefix + id)) === null) {
        this.#forget(id); // another tab had it answered
      } else if (!left.has(id)) {
        size += bytes(text) + 1;
        if (batch.length === BATCH_EVENTS || size > BATCH_BYTES) break;
        batch.push([id, text]);
      }
    }
    return batch;
  }

  /** The page may end: hand over what waits. It stays kept, for nobody learns of the answer. */
  #beacon() {
    for (;;) {
      const batch = this.#batch(this.#beaconed);
      const blob = new Blob([body(batch)], { type: this.#type });
      if (!batch.length || !navigator.sendBeacon(this.#url, blob)) return;
      for (const [id] of batch) this.#beaconed.add(id);
    }
  }

  /** Take over what earlier pages could not send. */
  #adopt() {
    const found = storage((all) => Object.keys(all)) ?? [];
    for (const key of found.filter((each) => each.startsWith(this.#prefix)).sort()) {
      if (this.#queue.size >= QUEUE_EVENTS) return;
      const id = key.slice(this.#prefix.length);
      const text = storage((all) => all.getItem(key));
      this.#queue.set(id, text);
      this.#kept.add(id);
      if (!isEvent(text, id)) this.#forget(id);
    }
  }

  #keep(id, text) {
    const done = storage((all) => all.setItem(this.#prefix + id, text) ?? true);
    if (done) this.#kept.add(id);
  }

  #forget(id) {
    this.#queue.delete(id);
    this.#beaconed.delete(id);
    if (this.#kept.delete(id)) storage((all) => all.removeItem(this.#prefix + id));
  }
}

/** Do something with localStorage; undefined where there is none, or it is full. */
function storage(work) {
  try {
    return work(globalThis.localStorage);
  } catch {
    return undefined;
  }
}

/** Whether what was kept is what was tracked: other scripts of the site may write there too. */
function isEvent(text, id) {
  try {
    return JSON.parse(text).id === id;
  } catch {
    return false;
  }
}

function body(batch) {
  const events = batch.map(([, text]) => text).join(",");
  return `{"source":"page","sent_at":${Date.now() * 1_000},"events":[${events}]}`;
}

/** What is wrong with an event that nobody needs to ask the gateway about. */
function mistake(event, fields) {
  if (typeof fields !== "object" || fields === null) return "its fields are no object";
  if (!Tracker.events) return "";
  if (!Object.hasOwn(Tracker.events, event)) return "there is no such event";
  const [required, optional] = Tracker.events[event];
  const lacking = required.filter((name) => fields[name] === undefined);
  const unknown = Object.keys(fields).filter((name) => ![...required, ...optional].includes(name));
  if (lacking.length) return `it lacks ${lacking.join(", ")}`;
  return unknown.length ? `it has no ${unknown.join(", ")}` : "";
}

function refuse(why, event) {
  console.error(`feilun: an event ${event} was not taken: ${why}.`);
  return null;
}

function bytes(text) {
  return new TextEncoder().encode(text).length;
}

/** How long (ms) the gateway asks to wait. */
function retryAfter(response) {
  const said = response.headers.get("Retry-After") ?? "";
  const wait = /^\d+$/.test(said) ? said * 1_000 : Date.parse(said) - Date.now();
  return wait > 0 ? Math.min(wait, 3_600_000) : 0;
}

/** A UUID of version 7 (RFC 9562, 5.7): the time in ms, then random bits. */
function uuid7(now) {
  const random = crypto.getRandomValues(new Uint8Array(16));
  for (let place = 0; place < 6; place++) random[place] = Math.floor(now / 256 ** (5 - place));
  random[6] = 0x70 | (random[6] & 0x0f);
  random[8] = 0x80 | (random[8] & 0x3f);
  const hex = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
