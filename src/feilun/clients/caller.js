/** The API did not answer 200. `status` is 0 if nobody answered; `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(status, said = {}, retryAfter = null) {
    const { code = "error", hint = "", request_id: requestId = "" } = said;
    super(`${said.message ?? `The answer was ${status}.`} ${hint}`.trim());
    this.name = "ApiError";
    Object.assign(this, { status, code, hint, requestId, retryAfter });
  }
}

class Caller {
  #url;
  #key;
  #timeout;
  #tracker = null;

  constructor({ url = HERE, key = "", timeout = 10_000 } = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#key = key;
    this.#timeout = timeout;
  }

  /** What tracks events; made when it is first needed. A page needs no key for it. */
  get tracker() {
    return (this.#tracker ??= new Tracker({ url: this.#url }));
  }

  track(event, fields) {
    return this.tracker.track(event, fields);
  }

  async _get(path, parameters, options) {
    return this.#call("GET", path, options, parameters);
  }

  async _post(path, parameters, options) {
    return this.#call("POST", path, options, {}, JSON.stringify(parameters));
  }

  async _postMany(path, requests, options) {
    return (await this.#call("POST", path, options, {}, JSON.stringify(requests))).replies;
  }

  async #call(method, path, { requestId, timeout, ...options }, query, body) {
    const asked = Object.entries(options).map(([name, value]) => [snake(name), value]);
    const given = [...Object.entries(query), ...asked].filter(([, value]) => value !== undefined);
    const target = given.length ? `${path}?${new URLSearchParams(given)}` : path;
    const headers = { "Content-Type": "application/json" };
    if (this.#key) headers.Authorization = `Bearer ${this.#key}`;
    if (requestId !== undefined) headers["Idempotency-Key"] = requestId;
    if (timeout !== undefined) headers["Request-Timeout"] = String(timeout / 1_000);
    let response, reply;
    try {
      // A second more than the gateway has, to hear that it was too late.
      const signal = AbortSignal.timeout(timeout === undefined ? this.#timeout : timeout + 1_000);
      const request = { method, headers, body, signal, credentials: "omit" };
      response = await fetch(this.#url + target, request);
      reply = await response.json();
    } catch (error) {
      if (response && !response.ok) throw new ApiError(response.status);
      throw new ApiError(0, { code: "unreachable", message: error.message });
    }
    if (response.ok) return reply;
    const wait = response.headers.get("Retry-After");
    throw new ApiError(response.status, reply.error, wait === null ? null : Number(wait));
  }
}

/** How the API calls what JavaScript calls minOffset. */
function snake(name) {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
