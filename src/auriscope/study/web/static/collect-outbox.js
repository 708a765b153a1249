// Recordings stay in the browser's database until the server has acknowledged the very same bytes.

const NAME = "auriscope-study";
const STORE = "recordings";
const LONGEST_WAIT_SECONDS = 60;
const STALL_SECONDS = 60;
const FORGET_DAYS = 7;

/** The server will not take this recording, however often it is sent. */
export class Refusal extends Error {
  constructor(status, key, message) {
    super(message || key);
    this.status = status;
    this.key = key;
    this.detail = message || "";
  }
}

class Later extends Error {
  constructor(seconds = 0) {
    super("later");
    this.seconds = seconds;
  }
}

/** The SHA-256 of a blob, in hexadecimal. */
export async function sha256Of(blob) {
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A random UUID. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Remove all recordings from this browser. */
export function forgetEverything() {
  return new Promise((resolve) => {
    const request = indexedDB.deleteDatabase(NAME);
    request.onsuccess = request.onerror = request.onblocked = () => resolve();
  });
}

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function openDatabase() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
  return promised(request);
}

/**
 * The recordings of one session. An entry holds key, session, task, blob, sha256, details, madeAt, and state: "draft"
 * before the participant sends it, "sending" from then on.
 */
export class Outbox {
  constructor(session, csrf) {
    this.session = session;
    this.csrf = csrf;
    this.memory = new Map();
  }

  /** Open the database; where the browser has none, recordings are only kept while the page is open. */
  async open() {
    try {
      this.database = await openDatabase();
      // Another window may want to delete it, after withdrawal.
      this.database.onversionchange = () => this.database.close();
      const old = Date.now() - FORGET_DAYS * 24 * 3600 * 1000;
      for (const entry of await this.all()) {
        if (entry.session !== this.session && entry.madeAt < old) await this.remove(entry.key);
      }
    } catch {
      this.database = null;
    }
    return this;
  }

  get isLasting() {
    return Boolean(this.database);
  }

  async all() {
    if (!this.database) return [...this.memory.values()];
    return promised(this.database.transaction(STORE).objectStore(STORE).getAll());
  }

  /** The entries of this session in a state, the oldest first. */
  async waiting(state) {
    const entries = (await this.all()).filter((entry) => entry.session === this.session && entry.state === state);
    return entries.sort((a, b) => a.madeAt - b.madeAt);
  }

  async keep(entry) {
    if (this.database) {
      try {
        const transaction = this.database.transaction(STORE, "readwrite", { durability: "strict" });
        const done = new Promise((resolve, reject) => {
          transaction.oncomplete = resolve;
          transaction.onabort = () => reject(transaction.error);
        });
        transaction.objectStore(STORE).put(entry);
        return await done;
      } catch {
        // The disk is full, or the user forbids it: what can be kept is kept here.
        this.database = null;
      }
    }
    this.memory.set(entry.key, entry);
  }

  async remove(key) {
    this.memory.delete(key);
    if (this.database) {
      await promised(this.database.transaction(STORE, "readwrite").objectStore(STORE).delete(key));
    }
  }

  /**
   * Send an entry until the server acknowledges its digest, and give the server's answer; then it is removed here.
   * Throws Refusal if it will never be taken. `tell` hears {sent: 0…1} and {wait: seconds}.
   */
  async send(entry, tell) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        // What was sent before may have arrived, although its acknowledgement did not.
        const known = attempt > 0 || entry.attempted ? await this.ask(entry) : null;
        if (!entry.attempted) {
          entry.attempted = true;
          await this.keep(entry);
        }
        const answer = known ?? (await this.put(entry, (sent) => tell({ sent })));
        if (answer.sha256 !== entry.sha256) throw new Later();
        await this.remove(entry.key);
        return answer;
      } catch (error) {
        if (!(error instanceof Later)) throw error;
        const backoff = Math.min(LONGEST_WAIT_SECONDS, 2 ** attempt) * (0.75 + 0.5 * Math.random());
        await untilOnline(Math.max(error.seconds, backoff), (wait) => tell({ wait }));
      }
    }
  }

  async ask(entry) {
    let response;
    try {
      response = await fetch(`/api/submissions/${entry.key}`, { cache: "no-store" });
    } catch {
      throw new Later();
    }
    if (response.status === 404) return null;
    if (!response.ok) throw failure(response.status, response.headers.get("retry-after"), await response.text());
    return response.json();
  }

  put(entry, progress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let stalled;
      const alive = () => {
        clearTimeout(stalled);
        stalled = setTimeout(() => request.abort(), 1000 * STALL_SECONDS);
      };
      request.open("PUT", `/api/submissions/${entry.key}?task=${encodeURIComponent(entry.task)}`);
      request.setRequestHeader("Content-Type", "audio/wav");
      request.setRequestHeader("X-Content-SHA256", entry.sha256);
      request.setRequestHeader("X-CSRF-Token", this.csrf);
      request.setRequestHeader("X-Recording-Details", JSON.stringify(entry.details));
      request.upload.onprogress = (event) => {
        alive();
        if (event.lengthComputable) progress(event.loaded / event.total);
      };
      request.onloadend = () => {
        clearTimeout(stalled);
        if (request.status === 200 || request.status === 201) {
          try {
            resolve(JSON.parse(request.responseText));
          } catch {
            reject(new Later());
          }
        } else {
          reject(failure(request.status, request.getResponseHeader("retry-after"), request.responseText));
        }
      };
      alive();
      request.send(entry.blob);
    });
  }
}

function failure(status, retryAfter, body) {
  if (status === 0 || status >= 500 || [408, 425, 429].includes(status)) return new Later(Number(retryAfter) || 0);
  try {
    const { error, message } = JSON.parse(body);
    return new Refusal(status, error, message);
  } catch {
    return new Refusal(status, "other", "");
  }
}

/** Wait, but no longer than until the network is back. */
export function untilOnline(seconds, tell) {
  return new Promise((resolve) => {
    const end = Date.now() + 1000 * seconds;
    const finish = () => {
      clearInterval(timer);
      window.removeEventListener("online", finish);
      resolve();
    };
    const look = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      if (left <= 0) finish();
      else tell(left);
    };
    const timer = setInterval(look, 500);
    window.addEventListener("online", finish);
    look();
  });
}
