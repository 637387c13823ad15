// The manual clock of a scripted session: it starts at 0, and only `advance` moves it [SCR-020].

export class ManualClock {
  now = 0;
  #timers = [];
  #created = 0;

  /** Calls `action` once the clock has moved on by `ms`; returns a function that takes the timer back. */
  after(ms, action) {
    const timer = { due: this.now + ms, order: (this.#created += 1), action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Fires what is due by due time, then by order of creation, each at its own time [SCR-022]. */
  advance(ms) {
    const end = this.now + ms;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#timers = this.#timers.filter((other) => other !== next);
      this.now = next.due;
      next.action();
    }
    this.now = end;
  }

  #next(end) {
    const due = this.#timers.filter((timer) => timer.due <= end);
    return due.sort((a, b) => a.due - b.due || a.order - b.order)[0];
  }
}
