// Requests to the server that served the page, and to no other.

/** An answer that says what is wrong. */
export class ApiError extends Error {
  /** @param {number} status @param {{ code?: string, message?: string, position?: number | null, names?: string[] | null }} error */
  constructor(status, error) {
    super(error.message ?? `the server answered with status ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.position = error.position ?? null;
    this.names = error.names ?? [];
  }
}

/** The server cannot be reached. */
export class Unreachable extends Error {
  constructor() {
    super("arbiter view does not answer. Start it again, and open the address that it prints.");
  }
}

/** @typedef {Record<string, string | undefined>} Query */

/** @param {string} path @param {Query} query */
function address(path, query) {
  const given = Object.entries(query).filter(([, value]) => value);
  const text = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return `api/${path}${text && `?${text}`}`;
}

/**
 * @param {string} path
 * @param {Query} query
 * @param {AbortSignal} [signal]
 * @param {string | null} [etag]
 */
async function request(path, query, signal, etag) {
  const headers = etag ? { "If-None-Match": etag } : undefined;
  try {
    return await fetch(address(path, query), { headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
}

/** @param {Response} response */
async function contents(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body.error ?? {});
  return body;
}

/**
 * Return the answer to a request. Throws ApiError or Unreachable.
 * @param {string} path
 * @param {Query} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function ask(path, query = {}, signal) {
  return contents(await request(path, query, signal));
}

/** @param {number} milliseconds @param {AbortSignal} signal */
function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), done(undefined)), { once: true });
  });
}

const AGAIN = 400; // milliseconds until a problem may have been read

/**
 * Return the answer to a request for a problem. While the log is being read, a problem that is not there yet is asked
 * for again. `isRead` tells whether all of the log has been read.
 * @param {string} path
 * @param {Query} query
 * @param {() => Promise<boolean>} isRead
 * @param {AbortSignal} signal
 */
export async function askPatiently(path, query, isRead, signal) {
  for (;;) {
    const last = await isRead();
    try {
      return await ask(path, query, signal);
    } catch (error) {
      if (last || !(error instanceof ApiError) || error.code !== "no_problem") throw error;
    }
    await pause(AGAIN, signal);
  }
}

const SOON = 2000; // milliseconds between two looks at what is changing
const LATER = 10_000; // and at what may change

/**
 * - `changed`: called with the first answer, and with each that differs from the one before.
 * - `failed`: called with errors. After an answer that says what is wrong, nothing is requested again.
 * - `answered`: called whenever the server has answered.
 * - `isLive`: whether the answer changes soon.
 * @typedef {{ changed: (answer: any) => void, failed: (error: unknown) => void, answered: () => void, isLive: (answer: any) => boolean }} Handlers
 */

/**
 * Look at an address until the signal aborts, and tell what changes.
 * @param {string} path
 * @param {Handlers} handlers
 * @param {AbortSignal} signal
 */
export async function follow(path, handlers, signal) {
  /** @type {string | null} */
  let etag = null;
  let isLive = true;
  while (!signal.aborted) {
    try {
      const response = await request(path, {}, signal, etag);
      if (response.status !== 304) {
        const answer = await contents(response);
        etag = response.headers.get("ETag");
        isLive = handlers.isLive(answer);
        if (!signal.aborted) handlers.changed(answer);
      }
      handlers.answered();
    } catch (error) {
      if (signal.aborted) return;
      handlers.failed(error);
      if (error instanceof ApiError) return;
    }
    do await pause(isLive ? SOON : LATER, signal);
    while (!signal.aborted && document.hidden);
  }
}
