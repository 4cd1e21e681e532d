/** The API did not answer 200. */
export class ApiError extends Error {
  /** The HTTP status; 0 if nobody answered. */
  readonly status: number;
  readonly code: string;
  readonly hint: string;
  /** Where it stands in the gateway's log. */
  readonly requestId: string;
  /** In how many seconds to try again, if the gateway said so. */
  readonly retryAfter: number | null;
}

/** What every call may be asked for; some take more. */
export interface Options {
  /** Names the request: under the same name it is answered once, and then with that answer. */
  requestId?: string;
  /** How long (ms) to wait; the gateway is told, and answers 504 when it is over. */
  timeout?: number;
}

/** Sends events in batches, until each is stored. */
export class Tracker {
  constructor(options?: { url?: string; linger?: number });
  /** How many events wait to be stored. */
  readonly waiting: number;
  /** Take an event to be sent soon; null if it was not taken, which the console explains. */
  track<E extends keyof Events>(event: E, fields: Events[E]): string | null;
  /** Send what waits now; resolves to how many events still wait. */
  flush(): Promise<number>;
}

declare class Caller {
  constructor(options?: { url?: string; key?: string; timeout?: number });
  /** What tracks events; made when it is first needed. A page needs no key for it. */
  readonly tracker: Tracker;
  track<E extends keyof Events>(event: E, fields: Events[E]): string | null;
}
