// Stop strings, looked for in the text outside blocks.

/** Holds back the longest ending of the text with which a stop string begins [SES-101]. */
export class StopMatcher {
  #stops;
  #held = '';

  constructor(stops) {
    this.#stops = stops;
  }

  get pending() {
    return this.#held !== '';
  }

  /** Takes characters; returns the text that is decided, and the stop string that is complete, if one is [SES-100]. */
  push(text) {
    if (this.#stops.length === 0) return { text, stop: undefined };
    let decided = '';
    for (const character of text) {
      const window = this.#held + character;
      const complete = this.#stops.filter((stop) => window.endsWith(stop));
      if (complete.length > 0) {
        const stop = complete.reduce((a, b) => (b.length > a.length ? b : a));
        this.#held = '';
        return { text: decided + window.slice(0, -stop.length), stop }; // [SES-102]
      }
      this.#held = this.#beginning(window);
      decided += window.slice(0, window.length - this.#held.length);
    }
    return { text: decided, stop: undefined };
  }

  /** Gives up what is held back. */
  flush() {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  #beginning(window) {
    for (let i = 0; i < window.length; i += 1) {
      const ending = window.slice(i);
      if (this.#stops.some((stop) => stop.startsWith(ending))) return ending;
    }
    return '';
  }
}
